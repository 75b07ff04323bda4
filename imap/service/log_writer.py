"""The master's end of the log: lines from all processes into a file, syslog or standard error."""

import contextlib
import os
import re
import sys
import syslog
import time
from typing import IO, Final

from imap.service.logs import clean

_LINE: Final = re.compile(r"<([0-7])>(.*)", re.DOTALL)
_ERROR: Final = 3
_INFO: Final = 6  # from here on to info_log_path
_LONGEST_LINE: Final = 8192  # octets; what a process writes without a newline is cut here


class LogWriter:
    """path: a file, "syslog", or "" for standard error.  info_path: the same for info and debug."""

    def __init__(self, path: str, info_path: str = "", *, facility: int = syslog.LOG_MAIL) -> None:
        self._paths = (path, info_path or path)
        self._facility = facility
        self._files: dict[str, IO[str]] = {}
        # systemd keeps the priority when a line begins with it, and stamps lines itself.
        self._journal = bool(os.environ.get("JOURNAL_STREAM"))
        self.reopen()

    def reopen(self) -> None:
        """Open files anew, after logrotate.  Raises OSError when one cannot be opened."""
        with contextlib.ExitStack() as opening:
            fresh: dict[str, IO[str]] = {
                path: opening.enter_context(open(path, "a", encoding="utf-8", buffering=1))
                for path in {*self._paths} - {"", "syslog"}
            }
            opening.pop_all()  # all could be opened: they stay open
        self.close()
        self._files = fresh
        if "syslog" in self._paths:
            syslog.openlog("sharefs", syslog.LOG_NDELAY, self._facility)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def descriptors(self) -> list[int]:
        return [file.fileno() for file in self._files.values()]

    def write(self, priority: int, text: str) -> None:
        """One line.  A full disk must not end the mail service: then standard error gets it."""
        path = self._paths[priority >= _INFO]
        try:
            if path == "syslog":
                syslog.syslog(priority, text)
            elif path:
                self._files[path].write(f"{_stamp()} {text}\n")
            else:
                self._to_stderr(priority, text)
        except OSError as exc:
            self._to_stderr(_ERROR, f"cannot log to {path}: {exc}")
            self._to_stderr(priority, text)

    def _to_stderr(self, priority: int, text: str) -> None:
        line = f"<{priority}>{text}\n" if self._journal else f"{_stamp()} {text}\n"
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except OSError:
            return  # nobody is left to hear it


def _stamp() -> str:
    return time.strftime("%b %d %H:%M:%S")


class LogPipe:
    """What one child writes to its standard error, cut into lines.

    speaker: the name its lines must begin with; others are put in quotation marks, so to speak:
    a login process in an attacker's hands cannot write lines of another process.
    """

    def __init__(self, fd: int, speaker: str, writer: LogWriter) -> None:
        self.fd = fd
        self._speaker = speaker
        self._writer = writer
        self._unread = b""
        self.open = True
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Pass on what has come.  False: the last writer has closed; so have we."""
        while True:
            try:
                octets = os.read(self.fd, 65536)
            except BlockingIOError:
                return True
            if not octets:
                self.close()
                return False
            *lines, self._unread = (self._unread + octets).split(b"\n")
            for line in lines:
                self._pass_on(line)
            if len(self._unread) > _LONGEST_LINE:
                self._pass_on(self._unread)
                self._unread = b""

    def read_rest(self) -> None:
        """After the child's death: what it still said.  Its own children may go on writing."""
        if self.open:
            self.read()

    def close(self) -> None:
        if self._unread:
            self._pass_on(self._unread)
        self._unread = b""
        self.open = False
        os.close(self.fd)

    def _pass_on(self, octets: bytes) -> None:
        text = octets[:_LONGEST_LINE].decode("utf-8", "backslashreplace")
        found = _LINE.fullmatch(text)
        priority, text = (int(found[1]), found[2]) if found else (_ERROR, text)
        if not text.startswith(self._speaker):
            text = f"{self._speaker}: Error: {text}"
        self._writer.write(priority, clean(text))
