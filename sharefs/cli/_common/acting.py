"""Doing a user's file work as that user, so that nothing in anybody's tree ever belongs to root.

The superuser's command forks; the child becomes the user for good and acts; the parent waits.
They speak JSON lines over a socket pair: the child may ask for homes, which only the parent can
look up, and ends with its result.  JSON, because the child is the user's: nothing that comes from
it may be more than data.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from io import BufferedRWPair
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, cast

from sharefs.errors import Code, SharingError
from sharefs.identity import privileges
from sharefs.identity.lookup import HomeLookup, answer
from sharefs.identity.model import MailUser, UnknownUser

T = TypeVar("T")

INTERRUPTED: Final = 128 + signal.SIGINT  # exit status of a process that obeyed Ctrl-C
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
MAX_LINE: Final = 256 << 20  # octets; a listing of a million mailboxes fits


class _ParentLookup:
    """Homes, asked of the parent process."""

    def __init__(self, channel: BufferedRWPair) -> None:
        self._channel = channel
        self._known: dict[str, tuple[bool, Path | None]] = {}

    def home_of(self, name: str) -> Path | None:
        exists, home = self._look_up(name)
        if not exists:
            raise UnknownUser(name)
        return home

    def exists(self, name: str) -> bool:
        return self._look_up(name)[0]

    def _look_up(self, name: str) -> tuple[bool, Path | None]:
        if name not in self._known:
            _send(self._channel, {"user": name})
            got = json.loads(self._channel.readline())
            if "error" in got:
                raise SharingError(Code.UNAVAILABLE, str(got["error"]), retryable=True)
            home = got.get("home")
            self._known[name] = bool(got["exists"]), None if home is None else Path(home)
        return self._known[name]


def run_as(user: MailUser, users: HomeLookup, action: Callable[[HomeLookup], T]) -> T:
    """What action returns, run under the user's uid, gid and groups.

    It travels as JSON: dicts, lists, text, numbers; a tuple arrives as a list.

    Not the superuser: only one's own uid will do, and the action runs right here, with no more
    groups than the login gave; if something went wrong, those that it lacks are named.  Raises
    what the action refused with; SharingError(NO_PERMISSION) for another user's mailboxes.
    """
    if os.geteuid() != 0:
        if user.uid != os.geteuid():
            raise SharingError(
                Code.NO_PERMISSION,
                f"only root can act for {user.name} (uid {user.uid}); you are uid {os.geteuid()}."
                "  Run this with sudo, or without -u for your own mailboxes",
            )
        lacks = lacking(user, {os.getegid(), *os.getgroups()})
        with _each_error_once(user, lacks):
            return cast(T, json.loads(json.dumps(action(users))))
    if user.uid == 0 or user.gid == 0:
        raise SharingError(
            Code.CANNOT,
            f"user {user.name} has uid {user.uid} and gid {user.gid}: nobody's mail is root's;"
            " give the user an id of its own",
        )
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    parent, pid = os.getpid(), 0
    try:
        with _held_back(_ENDING) as mask:
            pid = os.fork()
            if pid == 0:
                ours.close()
                _be_the_child(user, theirs, action, parent, mask)
        theirs.close()
        with ours, ours.makefile("rwb") as channel:
            outcome = _serve(channel, users)
    except BaseException:
        if pid:
            os.kill(pid, signal.SIGTERM)  # a Ctrl-C before the child was there was not its
        raise
    finally:
        ours.close()
        theirs.close()
        if pid:
            _, status = os.waitpid(pid, 0)
    if outcome is None and os.waitstatus_to_exitcode(status) == INTERRUPTED:
        raise KeyboardInterrupt  # ours came where Python passes over exceptions
    if outcome is None:
        how = os.waitstatus_to_exitcode(status)
        raise SharingError(
            Code.UNAVAILABLE, f"the process acting for {user.name} ended early (status {how})"
        )
    if "refused" in outcome:
        code, detail, retryable = outcome["refused"]
        raise SharingError(Code(code), str(detail), retryable=bool(retryable))
    return cast(T, outcome["result"])


@contextlib.contextmanager
def _held_back(numbers: Collection[signal.Signals]) -> Iterator[Collection[int]]:
    """For the length of a `with` these signals wait: while Python forks it passes over what their
    handlers raise.  Gives what was blocked before."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(channel: BufferedRWPair, users: HomeLookup) -> dict[str, Any] | None:
    """Answer the child's questions until it ends.  None: it ended without a result."""
    while True:
        line = channel.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            return None
        message = json.loads(line)
        if not isinstance(message, dict):
            return None
        if "user" not in message:
            return message if message.keys() & {"result", "refused"} else None
        channel.write(answer(line, users))
        channel.flush()


def _be_the_child(
    user: MailUser,
    connection: socket.socket,
    action: Callable[[HomeLookup], object],
    parent: int,
    mask: Collection[int],
) -> NoReturn:
    """Never returns into the parent's code: no handler of the parent's may run twice.

    mask: of signals, as it was before some were held back.
    """
    status = os.EX_SOFTWARE
    try:
        _obey_both_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with connection, connection.makefile("rwb") as channel:
            try:
                os.chdir("/")
                privileges.become(user.uid, user.gid, user.gids)
                privileges.end_with(parent, signal.SIGTERM)
                with _each_error_once(user):
                    _send(channel, {"result": action(_ParentLookup(channel))})
            except SharingError as refusal:
                _send(channel, {"refused": [refusal.code, refusal.detail, refusal.retryable]})
            except OSError as error:
                _send(channel, {"refused": [Code.UNAVAILABLE, _explained(error, user), False]})
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        pass  # the parent reads no more, and says itself why
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _obey_both_signals() -> None:
    """SIGTERM, when the parent ends or was told to, is as Ctrl-C: what was begun is tidied up."""
    is_ending = False

    def end(number: int, frame: object) -> None:
        nonlocal is_ending
        if is_ending and number == signal.SIGTERM:
            return  # the terminal's Ctrl-C came to both of us
        is_ending = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, end)


@contextlib.contextmanager
def _each_error_once(user: MailUser, lacks: str = "") -> Iterator[None]:
    """Print errors from the log, but the refusal that the command ends with only once.

    Commands print the warnings that concern them; the log need not say those again.
    lacks: what may be behind anything that went wrong; told if anything did.
    """
    log = logging.getLogger("sharefs")
    told: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = told.append  # type: ignore[assignment]
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
    refused = ""
    try:
        yield
    except SharingError as refusal:
        refused = refusal.detail
        raise
    except OSError as error:
        refused = str(error)
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
        errors = [record.getMessage() for record in told if record.levelno >= logging.ERROR]
        for text in dict.fromkeys(errors):
            if text not in refused:
                print(f"sharefs({user.name}): {text}", file=sys.stderr)
        if lacks and (told or refused):
            print(f"sharefs({user.name}): {lacks}", file=sys.stderr)


def lacking(user: MailUser, gids: Collection[int]) -> str:
    """What a process with only these groups lacks of the user's mail processes; "": nothing.

    mail_access_groups are for mail processes only, so a command that a user starts in a shell may
    be kept out of the sharing map, and of homes, that the user's IMAP sessions can read.
    """
    groups = [group for group in user.groups if group.gid not in gids]
    if not groups:
        return ""
    names = ", ".join(
        f"{group.name or group.gid} (gid {group.gid}, from {group.origin})" for group in groups
    )
    several = "groups" if len(groups) > 1 else "group"
    return (
        f"this command runs without the {several} {names}, which your mail processes have, so"
        " some of what is shared with you may be out of its reach; with"
        f" `sudo sharefs ... -u {user.name}` it has what they have"
    )


def _explained(error: OSError, user: MailUser) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where} (as {user.name}, uid {user.uid}, gid {user.gid})"


def _send(channel: BufferedRWPair, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message).encode("ascii") + b"\n")
    channel.flush()
