"""Where another user's home is: the small question that `%{owner_home}` asks.

A mail process runs as its own user and may not read the user databases.  The auth process
answers for it, over a local stream socket, and says nothing but whether a user exists and where
the home is.  One request and one answer per line, each a JSON object:

    {"user": "alice"}   ->   {"exists": true, "home": "/home/alice"}    home may be null
                             {"exists": false}
                             {"error": "…"}                             try again later
"""

import json
import os
import socket
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final, Protocol

from sharefs.errors import Code, SharingError
from sharefs.identity.model import UnknownUser
from sharefs.identity.usernames import MAX_NAME, BadName, check_name

# Octets of a line, newline included.  PATH_MAX is 4096, and JSON may spend six octets on one.
MAX_REQUEST: Final = 6 * MAX_NAME + 64
MAX_ANSWER: Final = 6 * 4096 + 64

# Seconds.  An answer is one stat(2) and a dictionary look-up away; NSS may be slower.
DEFAULT_TIMEOUT: Final = 5.0

# Seconds and entries.  Long enough for one LIST over many owners, short enough to forget a move.
_CACHE_TIME: Final = 10.0
_CACHE_SIZE: Final = 4096


class HomeLookup(Protocol):
    """Who can say where homes are: UserDatabase itself, or LookupClient from another process."""

    def home_of(self, name: str) -> Path | None:
        """The home, None if the user has none.  Raises UnknownUser, SharingError(UNAVAILABLE)."""

    def exists(self, name: str) -> bool:
        """Whether some user database knows the name.  Raises SharingError(UNAVAILABLE)."""


def answer(request: bytes, users: HomeLookup) -> bytes:
    """The line to send back for one line received.  Total: never raises, always ends in a newline.

    A name that could not be a user's is a user that does not exist.  Errors say no detail: whoever
    asks is some user's process.
    """
    try:
        asked = json.loads(request) if len(request) <= MAX_REQUEST else None
        name = asked.get("user") if isinstance(asked, dict) else None
    except (ValueError, RecursionError):
        name = None
    if not isinstance(name, str):
        return _line({"error": 'the request is not {"user": name}'})
    try:
        check_name(name)
        home = users.home_of(name)
    except (UnknownUser, BadName):
        return _line({"exists": False})
    except SharingError:
        return _line({"error": "the user databases are not available"})
    return _line({"exists": True, "home": None if home is None else os.fspath(home)})


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


class LookupClient:
    """Asks the auth process.  Synchronous, one connection, made when first needed and remade once.

    Answers are remembered for ten seconds.  close() when done; not for several threads at once.
    """

    def __init__(self, path: Path, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout
        self._connection: socket.socket | None = None
        self._unread = b""
        self._cache: OrderedDict[str, tuple[float, bool, Path | None]] = OrderedDict()

    def __enter__(self) -> "LookupClient":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up.  The next question connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._unread = b""

    def home_of(self, name: str) -> Path | None:
        known, home = self._look_up(name)
        if not known:
            raise UnknownUser(name)
        return home

    def exists(self, name: str) -> bool:
        return self._look_up(name)[0]

    def _look_up(self, name: str) -> tuple[bool, Path | None]:
        try:
            check_name(name)
        except BadName:
            return False, None
        now = time.monotonic()
        cached = self._cache.get(name)
        if cached is not None and now < cached[0]:
            return cached[1], cached[2]
        known, home = self._parse(self._ask(_line({"user": name})))
        self._cache[name] = now + _CACHE_TIME, known, home
        self._cache.move_to_end(name)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return known, home

    def _ask(self, request: bytes) -> bytes:
        """One line for one line.  A connection that was kept may have ended: try a new one once."""
        reused = self._connection is not None
        try:
            return self._exchange(request)
        except OSError as exc:
            self.close()
            if not reused or isinstance(exc, TimeoutError):
                raise self._unavailable(str(exc)) from exc
        try:
            return self._exchange(request)
        except OSError as exc:
            self.close()
            raise self._unavailable(str(exc)) from exc

    def _exchange(self, request: bytes) -> bytes:
        if self._connection is None:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._connection.settimeout(self._timeout)
            self._connection.connect(os.fspath(self._path))
        self._connection.sendall(request)
        while b"\n" not in self._unread:
            octets = self._connection.recv(MAX_ANSWER)
            if not octets:
                raise ConnectionResetError("the auth process hung up")
            self._unread += octets
            if len(self._unread) > MAX_ANSWER:
                raise ConnectionError("the answer is too long")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _parse(self, line: bytes) -> tuple[bool, Path | None]:
        try:
            got = json.loads(line)
            if "error" in got:
                raise self._unavailable(str(got["error"]))
            known, home = bool(got["exists"]), got.get("home")
            return known, None if home is None else Path(home)
        except (ValueError, TypeError, KeyError) as exc:
            self.close()
            raise self._unavailable(f"the answer does not parse: {line[:80]!r}") from exc

    def _unavailable(self, why: str) -> SharingError:
        detail = f"cannot ask for homes at {self._path}: {why}; is the server running?"
        return SharingError(Code.UNAVAILABLE, detail, retryable=True)
