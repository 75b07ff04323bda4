"""Which commands exist, and in which states each is legal: RFC 3501 section 6, as data.

Read it against the RFC with a finger.  `hushed`: while this command's responses go out no EXPUNGE
may be sent, not even at its end (RFC 3501 section 7.4.1).  `acl`: only where ACLs are in force.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from imap.commands import (
    acl,
    append,
    compress,
    copy,
    fetch,
    general,
    idle,
    listing,
    mailboxes,
    ordered,
    search,
    select,
    store,
)
from imap.commands.replies import Reply
from imap.commands.session import Session, State
from imap.wire import Command

Handler = Callable[[Session, Command], Awaitable[Reply]]

_ANY: Final = frozenset({State.AUTHENTICATED, State.SELECTED})
_SELECTED: Final = frozenset({State.SELECTED})


@dataclass(frozen=True, slots=True)
class Spec:
    handler: Handler
    states: frozenset[State]
    hushed: bool = False
    acl: bool = False


COMMANDS: Final[dict[str, Spec]] = {
    # RFC 3501 6.1, any state
    "CAPABILITY": Spec(general.capability, _ANY),
    "NOOP": Spec(general.noop, _ANY),
    "LOGOUT": Spec(general.logout, _ANY),
    "ID": Spec(general.id_, _ANY),  # RFC 2971
    "COMPRESS": Spec(compress.compress, _ANY),  # RFC 4978
    # RFC 3501 6.3, authenticated state
    "ENABLE": Spec(general.enable, _ANY),  # RFC 5161
    "SELECT": Spec(select.select, _ANY),
    "EXAMINE": Spec(select.examine, _ANY),
    "CREATE": Spec(mailboxes.create, _ANY),
    "DELETE": Spec(mailboxes.delete, _ANY),
    "RENAME": Spec(mailboxes.rename, _ANY),
    "SUBSCRIBE": Spec(mailboxes.subscribe, _ANY),
    "UNSUBSCRIBE": Spec(mailboxes.unsubscribe, _ANY),
    "LIST": Spec(listing.list_, _ANY),
    "LSUB": Spec(listing.lsub, _ANY),
    "STATUS": Spec(listing.status, _ANY),
    "APPEND": Spec(append.append, _ANY),
    "NAMESPACE": Spec(mailboxes.namespace, _ANY),  # RFC 2342
    "IDLE": Spec(idle.idle, _ANY),  # RFC 2177
    "GETACL": Spec(acl.getacl, _ANY, acl=True),  # RFC 4314
    "SETACL": Spec(acl.setacl, _ANY, acl=True),
    "DELETEACL": Spec(acl.deleteacl, _ANY, acl=True),
    "LISTRIGHTS": Spec(acl.listrights, _ANY, acl=True),
    "MYRIGHTS": Spec(acl.myrights, _ANY, acl=True),
    # RFC 3501 6.4, selected state
    "CHECK": Spec(select.check, _SELECTED),
    "CLOSE": Spec(select.close, _SELECTED),
    "UNSELECT": Spec(select.unselect, _SELECTED),  # RFC 3691
    "EXPUNGE": Spec(select.expunge, _SELECTED),
    "SEARCH": Spec(search.search, _SELECTED, hushed=True),
    "FETCH": Spec(fetch.fetch, _SELECTED, hushed=True),
    "SORT": Spec(ordered.sort, _SELECTED, hushed=True),  # RFC 5256
    "STORE": Spec(store.store, _SELECTED, hushed=True),
    "THREAD": Spec(ordered.thread, _SELECTED, hushed=True),  # RFC 5256
    "COPY": Spec(copy.copy, _SELECTED),
    "MOVE": Spec(copy.move, _SELECTED),  # RFC 6851
    "UID COPY": Spec(copy.uid_copy, _SELECTED),
    "UID MOVE": Spec(copy.uid_move, _SELECTED),
    "UID EXPUNGE": Spec(select.uid_expunge, _SELECTED),  # RFC 4315
    "UID FETCH": Spec(fetch.uid_fetch, _SELECTED),
    "UID SEARCH": Spec(search.uid_search, _SELECTED),
    "UID SORT": Spec(ordered.uid_sort, _SELECTED),
    "UID STORE": Spec(store.uid_store, _SELECTED),
    "UID THREAD": Spec(ordered.uid_thread, _SELECTED),
}

# Legal only before login: known, so that the answer can say so.
BEFORE_LOGIN: Final = frozenset({"LOGIN", "AUTHENTICATE", "STARTTLS"})

_CAPABILITY: Final = (
    b"IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE CHILDREN LIST-EXTENDED LIST-STATUS"
    b" SPECIAL-USE UIDPLUS MOVE UNSELECT"
    b" ESEARCH SEARCHRES WITHIN PARTIAL SORT SORT=DISPLAY ESORT"
    b" THREAD=REFERENCES THREAD=REFS THREAD=ORDEREDSUBJECT I18NLEVEL=1"
    b" MULTIAPPEND BINARY PREVIEW STATUS=SIZE SAVEDATE OBJECTID"
)
_ACL_CAPABILITY: Final = b" ACL RIGHTS=texk LIST-MYRIGHTS"


_INDEX_CAPABILITY: Final = b" CONDSTORE QRESYNC"


def capability(*, acl_enabled: bool, indexed: bool, compress: bool = True) -> bytes:
    """What is told after login.  Which document each word is: docs/rfc-map.md."""
    words = _CAPABILITY
    if acl_enabled:
        words += _ACL_CAPABILITY
    if indexed:
        words += _INDEX_CAPABILITY
    return words + b" COMPRESS=DEFLATE" if compress else words
