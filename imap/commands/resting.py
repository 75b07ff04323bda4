"""A session put away as data while nothing happens, and taken up again in another process.

pack() is synchronous and changes nothing, so that whoever calls it decides in one moment whether
all sessions of a process can go.  unpack() looks at the mailbox anew: what happened meanwhile is
told when it would have been told anyway, at once in IDLE, else with the next command.

The data goes through processes that do not read it, and comes back to one of the same identity.
"""

import base64
import logging
import os
import zlib
from array import array
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any, Final

from imap.commands.replies import ok
from imap.commands.session import Selected, Session, State
from imap.view import View
from sharefs.errors import Code, SharingError
from sharefs.flags import FlagSet, System
from sharefs.store.interface import Changes, Mailbox

log = logging.getLogger("imap.resting")

_MOST_SETS: Final = 256  # different sets of flags in one mailbox: an octet tells which


def pack(session: Session) -> dict[str, Any] | None:
    """The session as JSON values; None if it is in the middle of something.

    Only between two commands or within IDLE.
    """
    if session.out or session.appending is not None or session.state is State.LOGOUT:
        return None
    selected = None
    if session.selected is not None:
        selected = _pack_selected(session.selected, idling=bool(session.idle_tag))
        if selected is None:
            return None
    return {
        "enabled": sorted(session.enabled),
        "bad_commands": session.bad_commands,
        "idle_tag": session.idle_tag,
        "lost": session.lost.decode("ascii"),
        "selected": selected,
    }


def _pack_selected(selected: Selected, *, idling: bool) -> dict[str, Any] | None:
    mailbox, view = selected.handle.mailbox, selected.view
    if idling and (
        view.held
        or not view.is_abreast(mailbox)
        or not mailbox.looks_unchanged()
        or mailbox.settles_in() is not None
    ):
        return None  # there is something to tell, or to look at
    uids = mailbox.uids()
    sets: dict[FlagSet, int] = {}
    codes = bytearray()
    for flags in mailbox.flags_of_each(uids):
        if flags is None or len(sets) == _MOST_SETS:
            return None
        codes.append(sets.setdefault(flags, len(sets)))
    return {
        "name": selected.name,
        "places": [str(path) for path in mailbox.watch_paths()],
        "uidvalidity": mailbox.uidvalidity,
        "guid": mailbox.guid(),
        "examined": selected.examined,
        "keywords": list(selected.keywords),
        "saved": _squeeze(selected.saved),
        "numbered": selected.numbered,
        "highest": selected.highest,
        "told": selected.told,
        "shown": selected.shown,
        "shown_uids": None if view.uids == uids else _squeeze(view.uids),
        "recent": _squeeze(sorted(view.recent)),
        "untold": _squeeze(view.changes(mailbox).flags),
        "uids": _squeeze(uids),
        "flags": [[int(flags.system), sorted(flags.keywords)] for flags in sets],
        "codes": _as_text(bytes(codes)),
    }


async def unpack(session: Session, packed: dict[str, Any]) -> None:
    """Undo pack().  If the mailbox cannot be had any more, IDLE and the session end with BYE;
    else the client hears of it with its next command, for each command has an answer.
    """
    session.enabled = set(packed["enabled"])
    session.bad_commands = packed["bad_commands"]
    session.idle_tag = packed["idle_tag"]
    session.lost = packed["lost"].encode("ascii")
    kept = packed["selected"]
    if kept is None:
        return
    try:
        session.selected = await _reopen(session, kept)
    except (SharingError, OSError) as error:
        log.info("Mailbox lost while the connection slept: %s", error)
        gone = error.code is Code.NONEXISTENT if isinstance(error, SharingError) else False
        why = b"was deleted or replaced" if gone else b"cannot be read any more"
        if session.idle_tag:
            session.part(why)
            session.out += ok("Idle completed.").line(session.idle_tag.encode("ascii"))
        else:
            session.lost = why
    else:
        session.state = State.SELECTED


async def _reopen(session: Session, kept: dict[str, Any]) -> Selected:
    await session.host.blocking(_demand_places, kept)
    handle = await session.host.open(session.account, kept["name"])
    try:
        view = await handle.run(_compare, handle.mailbox, kept)
    except BaseException:
        handle.release()
        raise
    return Selected(
        kept["name"],
        handle,
        view,
        kept["examined"],
        tuple(kept["keywords"]),
        _unsqueeze(kept["saved"]),
        kept["numbered"],
        kept["highest"],
        kept["told"],
        kept["shown"],
    )


def _demand_places(kept: dict[str, Any]) -> None:
    """Raises SharingError(NONEXISTENT) while the mailbox is being removed.

    To open one of which half is gone would make that half anew, and who removes it would fail.
    """
    if not all(map(os.path.isdir, kept["places"])):
        raise SharingError(Code.NONEXISTENT, f"{kept['name']} is not there, or not all of it")


def _compare(mailbox: Mailbox, kept: dict[str, Any]) -> View:
    """What the session saw, and as missed what became of it.  Raises SharingError(NONEXISTENT)."""
    if not mailbox.looks_unchanged():
        mailbox.sync()
    if (mailbox.uidvalidity, mailbox.guid()) != (kept["uidvalidity"], kept["guid"]):
        raise SharingError(Code.NONEXISTENT, f"{kept['name']} is another mailbox now")
    now = mailbox.uids()
    before = _unsqueeze(kept["uids"])
    shown = before if kept["shown_uids"] is None else _unsqueeze(kept["shown_uids"])
    sets = [FlagSet(System(system), frozenset(words)) for system, words in kept["flags"]]
    codes = _from_text(kept["codes"])
    then = [sets[code] for code in codes]
    changed = {
        uid
        for uid, was, flags in zip(before, then, mailbox.flags_of_each(before), strict=True)
        if flags is not None and flags != was
    }
    present, last = set(now), shown[-1] if shown else 0
    # One list for all sessions that see the same.
    view = View(now if shown == list(now) else shown, mailbox.generation, ())
    view.recent = set(_unsqueeze(kept["recent"]))
    view.missed = Changes(
        expunged=tuple(uid for uid in shown if uid not in present),
        added=tuple(uid for uid in now if uid > last),
        flags=tuple(sorted((changed | set(_unsqueeze(kept["untold"]))) & present)),
    )
    return view


def _squeeze(numbers: Iterable[int]) -> str:
    """Ascending numbers: their distances are small and much alike."""
    return _as_text(array("I", (high - low for low, high in pairwise((0, *numbers)))).tobytes())


def _unsqueeze(text: str) -> list[int]:
    distances = array("I")
    distances.frombytes(_from_text(text))
    return [*accumulate(distances)]


def _as_text(octets: bytes) -> str:
    return base64.b64encode(zlib.compress(octets, 1)).decode() if octets else ""


def _from_text(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text)) if text else b""
