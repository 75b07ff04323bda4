"""Bounds what users can make the daemon log.

Much that is worth a line can be provoked by a look-up, hundreds of times a second: a mailbox whose
owner keeps swapping it for a link, say.  So a line is written once in SPAN seconds, and of one kind
(the same text about different things) only so many; the next one tells how many were left out.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

SPAN: Final = 60.0  # seconds
LINES: Final = 10  # of one kind in a span
MAX_KINDS: Final = 2000
_VERDICT: Final = "sharefs_log_limit"  # of a record that another handler has asked about


def about(user: str) -> dict[str, object]:
    """For a log call's extra: the line is about this user, who cannot take others' lines away."""
    return {"whose": user}


class _Kind:
    """lines: hashes of those written since then.  left_out: how many were not."""

    __slots__ = ("left_out", "lines", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.lines: set[int] = set()
        self.left_out = 0


class LogLimit(logging.Filter):
    """One for all handlers of a process; in any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: OrderedDict[tuple[str, str, str], _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        verdict = getattr(record, _VERDICT, None)
        if verdict is None:
            verdict = self._judge(record)
            setattr(record, _VERDICT, verdict)
        return bool(verdict)

    def _judge(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        same = hash((line, repr(error)))
        key = record.name, str(record.msg), getattr(record, "whose", "")
        now = self._clock()
        with self._lock:
            kind = self._kinds.get(key)
            left_out = 0
            if kind is None or now - kind.since >= SPAN:
                left_out = 0 if kind is None else kind.left_out
                kind = self._kinds[key] = _Kind(now)
                self._kinds.move_to_end(key)
                if len(self._kinds) > MAX_KINDS:
                    self._kinds.popitem(last=False)
            if same in kind.lines or len(kind.lines) >= LINES:
                kind.left_out += 1
                return False
            kind.lines.add(same)
        if left_out:
            record.msg, record.args = f"{line} (and {left_out} more like it were left out)", ()
        return True


def limit_root() -> None:
    """Whatever this process logs from now on, through the handlers that there are."""
    limit = LogLimit()
    for handler in logging.getLogger().handlers:
        handler.addFilter(limit)
