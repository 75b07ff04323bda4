"""A Dovecot that holds a list of messages in a Maildir and is asked for them over IMAP."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from io import BufferedRWPair
from pathlib import Path
from typing import Final

from tests.support.dovecot import PASSWORD, MailUser, private_dovecot

UID: Final = 41001

_LITERAL: Final = re.compile(rb"\{([0-9]+)\}\r\n\Z")


class Oracle:
    """Asks one question at a time in the mailbox that holds the messages, numbered from 1."""

    def __init__(self, stream: BufferedRWPair) -> None:
        self.stream = stream
        self.stream.readline()
        self.ask(b"LOGIN u " + PASSWORD.encode())
        self.ask(b"EXAMINE INBOX")

    def ask(self, command: bytes) -> bytes:
        """Everything the server says up to the tagged OK."""
        self.stream.write(b"x " + command + b"\r\n")
        self.stream.flush()
        answer = b""
        while True:
            line = self.stream.readline()
            assert line, f"Dovecot hung up after {answer!r}"
            answer += line
            if literal := _LITERAL.search(line):
                answer += self.stream.read(int(literal[1]))
            elif line.startswith(b"x "):
                assert line.startswith(b"x OK"), line
                return answer

    def fetch(self, number: int, item: bytes) -> bytes:
        """The value of one FETCH item as it stands on the wire."""
        answer = self.ask(b"FETCH %d %b" % (number, item))
        name = item.replace(b".PEEK", b"")
        if origin := re.search(rb"<([0-9]+)\.[0-9]+>\Z", name):
            name = name[: origin.start()] + b"<%b>" % origin[1]
        head = b"* %d FETCH (%b " % (number, name.upper())
        assert answer.startswith(head), answer
        return answer[len(head) : answer.rindex(b")\r\nx OK")]

    def section(self, number: int, item: bytes) -> bytes:
        """The octets of a BODY.PEEK[...] item; NIL is none."""
        value = self.fetch(number, item)
        if literal := re.match(rb"\{([0-9]+)\}\r\n", value):
            return value[literal.end() : literal.end() + int(literal[1])]
        return b"" if value == b"NIL" else re.sub(rb"\\(.)", rb"\1", value[1:-1])

    def search(self, keys: str) -> set[int]:
        line = self.ask(f"SEARCH CHARSET UTF-8 {keys}".encode()).partition(b"\r\n")[0]
        return set(map(int, line.split()[2:]))


@contextlib.contextmanager
def oracle(messages: Sequence[bytes]) -> Iterator[Oracle]:
    """A Dovecot with these messages, stopped at the end."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        home = Path(top, "home")
        for name in ("cur", "new", "tmp"):
            (home / "Maildir" / name).mkdir(parents=True)
        for number, octets in enumerate(messages):
            (home / "Maildir/cur" / f"{1000 + number}.x.host:2,").write_bytes(octets)
        for path in [home, *home.rglob("*")]:
            os.chown(path, UID, UID)
        config = "mail_location = maildir:~/Maildir\n"
        with (
            private_dovecot(config, [MailUser("u", UID, UID, home)]) as server,
            server.connect() as connection,
            connection.makefile("rwb") as stream,
        ):
            yield Oracle(stream)
