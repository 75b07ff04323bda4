"""Our server and a real Dovecot 2.3 side by side, each on its own copy of one tree, same users.

Twins.ask() sends one command to both and returns both answers, normalised: what may differ between
any two correct servers is evened out, and nothing else.
"""

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.robust.world import GROUP, UIDS, make_dir
from tests.support.dovecot import Dovecot, MailUser, private_dovecot
from tests.support.server import Server, private_server

OURS: Final = """
mail_driver = maildir
mail_path = ~/Maildir
mail_access_groups = {group}
sharefs_mailbox_permissions_from = parent
acl_driver = vfile
acl_cache_ttl = 0
acl_sharing_map {{
  dict file {{
    path = {top}/db/shared-mailboxes.db
  }}
}}
namespace inbox {{
  type = private
  separator = /
  inbox = yes
  mailbox Sent {{
    special_use = \\Sent
  }}
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/$user/
  mail_path = %{{owner_home}}/Maildir
  mail_index_private_path = ~/private/%{{owner_user}}
  subscriptions = no
  list = children
}}
namespace public {{
  type = public
  separator = /
  prefix = Public/
  mail_path = {top}/public
  subscriptions = no
  list = children
}}
"""
THEIRS: Final = """
mail_location = maildir:~/Maildir
mail_access_groups = {group}
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
}}
plugin {{
  acl = vfile:cache_secs=0
  acl_shared_dict = file:{top}/db/shared-mailboxes.db
}}
service auth {{
  unix_listener auth-userdb {{
    mode = 0777
  }}
}}
namespace inbox {{
  type = private
  separator = /
  inbox = yes
  mailbox Sent {{
    special_use = \\Sent
  }}
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
}}
namespace shared {{
  type = shared
  separator = /
  prefix = shared/%%u/
  location = maildir:%%h/Maildir:INDEX=~/idx/%%u:INDEXPVT=~/private/%%u
  subscriptions = no
  list = children
}}
namespace public {{
  type = public
  separator = /
  prefix = Public/
  location = maildir:{top}/public:INDEX=~/idx/public
  subscriptions = no
  list = children
}}
"""


class Wire:
    """One logged in connection; answers with their literals inside."""

    def __init__(self, sock: socket.socket, user: str) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        self._line()
        assert self.ask(b"LOGIN %b pass" % user.encode())[-1].startswith(b"x OK")

    def ask(self, command: bytes) -> list[bytes]:
        """Untagged responses and the tagged one, each whole, without the last CRLF."""
        self._sock.sendall(b"x " + command + b"\r\n")
        answer = [self._line()]
        while not answer[-1].startswith(b"x "):
            answer.append(self._line())
        return answer

    def _line(self) -> bytes:
        whole = b""
        while True:
            line = self._file.readline()
            assert line, f"the server hung up after {whole!r}"
            whole += line
            if not (found := re.search(rb"\{(\d+)\}\r\n\Z", line)):
                return whole.removesuffix(b"\r\n")
            whole += self._file.read(int(found[1]))

    def close(self) -> None:
        self._file.close()
        self._sock.close()


class Greets(Protocol):
    def connect(self) -> socket.socket: ...


class Side:
    """One of the two servers, its tree, and one connection for each user."""

    def __init__(self, top: Path, server: Greets) -> None:
        self.top = top
        self.server = server
        self._wires = {user: Wire(server.connect(), user) for user in UIDS}

    def home(self, user: str) -> Path:
        return self.top / "home" / user

    def ask(self, user: str, command: bytes) -> list[bytes]:
        return self._wires[user].ask(command)

    def reconnect(self, user: str) -> None:
        self._wires[user].close()
        self._wires[user] = Wire(self.server.connect(), user)

    def close(self) -> None:
        while self._wires:
            self._wires.popitem()[1].close()


@dataclass
class Twins:
    ours: Side
    theirs: Side
    server: Server
    dovecot: Dovecot

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.ours, self.theirs

    def reconnect(self, user: str) -> None:
        for side in self.sides:
            side.reconnect(user)

    def ask(self, user: str, command: bytes) -> tuple[list[str], list[str]]:
        ours, theirs = (normalised(side.ask(user, command)) for side in self.sides)
        return ours, theirs


@contextlib.contextmanager
def twins(prepare: Callable[[Path], None], extra: str = "") -> Iterator[Twins]:
    """Both servers for the length of a `with`.

    prepare: fills a tree, below which is home/USER.  extra: settings for our server.
    """
    base = Path(tempfile.mkdtemp(prefix="twins-of-sharefs-"))
    base.chmod(0o755)
    try:
        for name in ("ours", "theirs"):
            top = base / name
            (top / "home").mkdir(parents=True)
            make_dir(top / "db", 0o2770, 0, GROUP)
            make_dir(top / "public", 0o2770, 0, GROUP)
            for user, uid in UIDS.items():
                make_dir(top / "home" / user, 0o711, uid, uid)
                make_dir(top / "home" / user / "Maildir", 0o2770, uid, GROUP)
            prepare(top)
        with (
            private_server(
                config_for(OURS, base / "ours") + extra, users_below(base / "ours")
            ) as server,
            private_dovecot(
                config_for(THEIRS, base / "theirs"), users_below(base / "theirs")
            ) as dovecot,
        ):
            found = Twins(
                Side(base / "ours", server), Side(base / "theirs", dovecot), server, dovecot
            )
            try:
                yield found
            finally:
                for side in found.sides:
                    side.close()
    finally:
        shutil.rmtree(base, ignore_errors=True)


def config_for(text: str, top: Path) -> str:
    return text.format(top=top, group=GROUP)


def users_below(top: Path) -> list[MailUser]:
    return [MailUser(name, uid, uid, top / "home" / name) for name, uid in UIDS.items()]


# --- normalisation ---------------------------------------------------------------------------

# Responses of extensions that we do not have: nobody asked for them.
_EXTRAS = re.compile(r"\* OK \[(HIGHESTMODSEQ|NOMODSEQ|MAILBOXID|CLOSED)")
_OTHERS = re.compile(r"\* OK \[MAILBOXID")
# \\Recent and counts of it: which session is the first to see a message is each server's matter.
_RECENT = re.compile(r"\* \d+ RECENT")
_PAREN = re.compile(r"\(([^()]*)\)")


def normalised(answer: list[bytes], *, extensions: bool = False) -> list[str]:
    r"""Evens out what the standards leave open:

    human text after a status and its code; UIDVALIDITY; the order of flags, of attributes, of
    LIST, LSUB and STATUS responses, of FETCH items, of identifiers and letters in ACL responses;
    quotes around what needs none; the case of attributes; responses of extensions of one's own;
    \Recent; MAILBOXID; keywords in FLAGS and PERMANENTFLAGS; the charsets that BADCHARSET names.

    extensions: keep the responses of extensions.
    """
    lines = [_line(raw.decode("latin-1")) for raw in answer]
    extras = _OTHERS if extensions else _EXTRAS
    kept = [line for line in lines if not (extras.match(line) or _RECENT.match(line))]
    untagged, tagged = kept[:-1], kept[-1]
    if all(line.split(" ")[1] in ("LIST", "LSUB", "STATUS", "MYRIGHTS") for line in untagged):
        untagged.sort()
    return [*untagged, tagged]


def _line(line: str) -> str:
    word = line.split(" ", 2)[1]
    if word in ("OK", "NO", "BAD", "BYE"):
        return _status(line)
    if word == "CAPABILITY":
        return "* CAPABILITY ..."
    if word == "FLAGS":
        return _PAREN.sub(_system_flags, line)
    if word in ("LIST", "LSUB"):
        return _PAREN.sub(_sorted_words, _unquoted(line)).replace("\\noselect", "\\NoSelect")
    if word == "ACL":
        mailbox, *pairs = _words(line)[2:]
        entries = sorted(
            f"{i}={''.join(sorted(r))}" for i, r in zip(pairs[::2], pairs[1::2], strict=True)
        )
        return f"* ACL {mailbox} {' '.join(entries)}"
    if word in ("MYRIGHTS",):
        *head, rights = _words(line)
        return f"{' '.join(head)} {''.join(sorted(rights))}"
    if line.split(" ")[2:3] == ["FETCH"]:
        return _fetch(line)
    if word == "STATUS":
        line = re.sub(r"UIDVALIDITY \d+", "UIDVALIDITY V", line)
        return _PAREN.sub(_sorted_pairs, _unquoted(line))
    return _unquoted(line)


def _status(line: str) -> str:
    tag, status, rest = (*line.split(" ", 2), "")[:3]
    if not rest.startswith("["):
        return f"{tag} {status}"
    code = rest[1 : rest.index("]")]
    name, _, arguments = code.partition(" ")
    match name:
        case "CAPABILITY":
            code = name
        case "UIDVALIDITY":
            code = "UIDVALIDITY V"
        case "MAILBOXID" if tag != "*":  # those are left out as a whole
            return f"{tag} {status}"
        case "APPENDUID" | "COPYUID":
            code = f"{name} V {arguments.partition(' ')[2]}"
        case "PERMANENTFLAGS":
            code = _PAREN.sub(_system_flags, code)
        case "BADCHARSET":
            code = name
    return f"{tag} {status} [{code}]"


def _fetch(line: str) -> str:
    """Items by name, those that stand first in a line by rule of thumb: flags sorted."""
    head, _, rest = line.partition(" (")
    rest = rest.removesuffix(")")
    found: list[str] = []
    if flags := re.search(r"FLAGS \(([^)]*)\) ?", rest):
        found.append("FLAGS " + " ".join(sorted(set(flags[1].split()) - {"\\Recent"})))
        rest = rest.replace(flags[0], "", 1)
    if uid := re.search(r"(?:^| )UID (\d+) ?", rest):
        found.append(f"UID {uid[1]}")
        rest = rest.replace(uid[0], " ", 1)
    return f"{head} ({'; '.join(found)}) {rest.strip()}"


def _system_flags(match: re.Match[str]) -> str:
    """Keywords are left out: Dovecot names those that one viewer's index has met."""
    return f"({' '.join(sorted(word for word in match[1].split() if word[0] == chr(92)))})"


def _sorted_words(match: re.Match[str]) -> str:
    return (
        "("
        + " ".join(sorted(match[1].split(), key=str.lower)).replace("\\Noselect", "\\NoSelect")
        + ")"
    )


def _sorted_pairs(match: re.Match[str]) -> str:
    words = match[1].split()
    return (
        "("
        + " ".join(sorted(f"{n} {v}" for n, v in zip(words[::2], words[1::2], strict=True)))
        + ")"
    )


def _unquoted(line: str) -> str:
    return re.sub(r'"([^" ()\\{%*]+)"', r"\1", line)


def _words(line: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)]


Tree = dict[str, list[tuple[str, str, bytes]]]


def tree_of(top: Path) -> Tree:
    """Type and mode, owner and group, content by path; unique parts of names evened out.

    Index files, locks and lists of UIDs are each server's own business.
    """
    found: dict[str, list[tuple[str, str, bytes]]] = {}
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in ("idx", "private", ".cache")]
        for name in [*folders, *files]:
            path = Path(folder, name)
            if re.search(r"dovecot(\.|-uid|\.list|\.mailbox)|subscriptions\.lock", name):
                continue
            relative = re.sub(r"\d+\.[MR]\d+[^/:]*", "MESSAGE", os.fspath(path.relative_to(top)))
            status = path.lstat()
            facts = oct(status.st_mode), f"{status.st_uid}:{status.st_gid}", _content(path)
            found.setdefault(relative, []).append(facts)
    return {path: sorted(facts) for path, facts in found.items()}


def _content(path: Path) -> bytes:
    if not path.is_file():
        return b""
    lines = path.read_bytes().splitlines(keepends=True)
    if path.name.endswith(".db"):  # pairs of lines in any order
        lines = sorted(map(b"".join, zip(lines[::2], lines[1::2], strict=True)))
    if path.name == "dovecot-acl-list":
        lines = sorted(re.sub(rb"^\d+", b"MTIME", line) for line in lines)
    return b"".join(lines)
