"""One line per event, from every process, by a pipe to the master.

A process writes "<priority>name: Level: text" to its standard error (the prefix of sd-daemon(3));
the pipe behind it belongs to the master, which alone holds the log file: so a process without any
right can log, and nothing it writes can forge another line, as control characters are escaped
here and the master puts its own stamp in front.  Passwords are never given to this module.

Texts and fields are those of Dovecot (user=<bob>, method=PLAIN, rip=..., session=<...>), so that
fail2ban filters and log analysers go on working.
"""

import contextlib
import logging
import os
import re
import sys
from contextvars import ContextVar
from typing import Final

_PRIORITY: Final = (  # syslog(3) priorities by level, highest first
    (logging.CRITICAL, 2, "Fatal"),
    (logging.ERROR, 3, "Error"),
    (logging.WARNING, 4, "Warning"),
    (logging.INFO, 6, "Info"),
    (0, 7, "Debug"),
)
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST: Final = 3500  # octets; below PIPE_BUF (4096), so lines of many writers never mix
_QUOTED: Final = frozenset({"user", "session"})  # Dovecot writes these as <value>


# Whose line it is, in a process that serves many: "imap(bob)<4711><session>".  Empty: its own.
on_behalf_of: Final[ContextVar[str]] = ContextVar("on_behalf_of", default="")


def clean(text: str) -> str:
    """text with everything escaped that could end or disguise a log line."""
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def fields(**values: object) -> str:
    """ "user=<bob>, method=PLAIN, TLS": True stands for its name, None and False vanish."""
    parts: list[str] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        if value is True:
            parts.append(name)
        elif name in _QUOTED:
            # A user name is the client's choice: it must not look like the end and other fields.
            inner = clean(str(value)).replace("<", "\\x3c").replace(">", "\\x3e")
            parts.append(f"{name}=<{inner}>")
        else:
            parts.append(f"{name}={clean(str(value))}")
    return ", ".join(parts)


class LineFormatter(logging.Formatter):
    """A record as whole lines, each with its priority and the process's name."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        number, word = next((n, w) for level, n, w in _PRIORITY if record.levelno >= level)
        name = on_behalf_of.get() or self.process
        lines = [record.getMessage()]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return "\n".join(
            f"<{number}>{name}: {word}: {clean(line)[:_LONGEST]}" for line in lines if line
        )


class PipeHandler(logging.Handler):
    """Writes to standard error, a line per write(2).  A master that has gone is not an error."""

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            octets = line.encode("utf-8", "backslashreplace")[:_LONGEST] + b"\n"
            with contextlib.suppress(OSError):
                os.write(2, octets)


def start_logging(process: str, *, debug: bool = False) -> logging.Logger:
    """Send this process's log to its standard error under the name process.

    For children, whose standard error is the master's pipe.  Replaces what a parent has set up.
    """
    handler = PipeHandler()
    handler.setFormatter(LineFormatter(process))
    top = logging.getLogger()
    top.handlers[:] = [handler]
    top.setLevel(logging.DEBUG if debug else logging.INFO)
    sys.stdout = sys.stderr
    return logging.getLogger("sharefs")
