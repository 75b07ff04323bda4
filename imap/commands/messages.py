"""Which messages a command names: sequence sets and UID sets against the connection's view."""

from imap.commands.session import Selected, Session
from imap.wire import ProtocolError, SequenceSet


def named_uids(session: Session, named: SequenceSet, *, by_uid: bool) -> list[int]:
    """The UIDs that a set names, ascending.

    By number, naming a message that does not exist is the client's error (RFC 3501 section 9,
    seq-number); by UID it is not, and such UIDs are left out.  Held messages are included: the
    caller decides what their absence means.
    """
    selected = session.current()
    if not by_uid and named.beyond(len(selected.view)):
        raise ProtocolError("Message set names messages that do not exist")
    return resolve(selected, named, by_uid=by_uid)


def resolve(selected: Selected, named: SequenceSet, *, by_uid: bool) -> list[int]:
    """The UIDs of the view that named stands for, ascending.

    "$" is what a search saved: of that what the view still has (RFC 5182 section 2.1), whether
    the command goes by number or by UID.
    """
    view = selected.view
    if named.saved:
        saved = frozenset(selected.saved)
        return [uid for uid in view.uids if uid in saved and not view.is_held(uid)]
    if by_uid:
        return named.pick(view.uids)
    ranges = named.resolve(len(view))
    return [uid for low, high in ranges for uid in view.uids[low - 1 : high]]
