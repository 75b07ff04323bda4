"""Standard input, output and error of a command: there from the start, and what ends it without."""

import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OUTPUT: Final = "standard output"
_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class _Output(io.FileIO):
    """Standard output, whose errors say that they are its: no other OSError is of nothing named."""

    def write(self, octets: "ReadableBuffer", /) -> int:
        try:
            return super().write(octets)
        except OSError as error:
            error.filename = OUTPUT
            raise


def prepare() -> None:
    """Open what is missing, and let errors of standard output name it."""
    _open_missing()
    ours = sys.stdout
    if ours is sys.__stdout__ and isinstance(ours, io.TextIOWrapper):  # not a test's
        ours.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(ours.fileno(), "w", closefd=False)),
            encoding=ours.encoding, errors=ours.errors, line_buffering=ours.line_buffering,
        )  # fmt: skip


def _open_missing() -> None:
    """/dev/null in place of standard streams that were closed, as by `>&-`.

    Otherwise the next file that is opened gets the free descriptor, and what is printed goes
    into it: a plan, say, or a journal.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is not None:
            continue
        fd = os.open(os.devnull, os.O_RDWR)
        if fd != number:
            os.dup2(fd, number)
            os.close(fd)
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  # to the end


def leave_output() -> None:
    """Let what could not be written go, so that the interpreter does not try again at its end."""
    fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(fd, sys.stdout.fileno())
    os.close(fd)


def die_of(number: signal.Signals) -> NoReturn:
    """End as a program that knows nothing of the signal does: the caller sees what it was."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    sys.exit(128 + number)  # it is blocked: the status that a shell would show
