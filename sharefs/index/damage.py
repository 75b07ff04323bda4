"""The one exception for an index that is wrong."""


class Damaged(Exception):
    """The index holds what nobody wrote there."""
