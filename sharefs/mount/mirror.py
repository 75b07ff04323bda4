"""The mirror, whole: see `tree`."""

from sharefs.mount.acting_attributes import AttributeActions
from sharefs.mount.acting_files import FileActions
from sharefs.mount.acting_links import LinkActions


class Mirror(FileActions, LinkActions, AttributeActions):
    """One directory as it is, under the creation rules."""
