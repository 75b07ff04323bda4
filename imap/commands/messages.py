"""Which messages a command names: sequence sets and UID sets against the connection's view."""

from imap.commands.session import Session
from imap.view import View
from imap.wire import ProtocolError, SequenceSet


def named_uids(session: Session, named: SequenceSet, *, by_uid: bool) -> list[int]:
    """The UIDs that a set names, ascending.

    By number, naming a message that does not exist is the client's error (RFC 3501 section 9,
    seq-number); by UID it is not, and such UIDs are left out.  Held messages are included: the
    caller decides what their absence means.
    """
    view = session.current().view
    if not by_uid and named.beyond(len(view)):
        raise ProtocolError("Message set names messages that do not exist")
    return resolve(view, named, by_uid=by_uid)


def resolve(view: View, named: SequenceSet, *, by_uid: bool) -> list[int]:
    """The UIDs of view that named stands for, ascending."""
    if by_uid:
        return named.pick(view.uids)
    ranges = named.resolve(len(view))
    return [uid for low, high in ranges for uid in view.uids[low - 1 : high]]
