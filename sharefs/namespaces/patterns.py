"""LIST patterns: which mailbox names a pattern with `*` and `%` matches.  Pure.

RFC 3501 section 6.3.8: `*` matches zero or more characters, `%` as well but never the hierarchy
separator.  INBOX matches in any letter case, other names exactly.

A pattern comes from a client, so matching must not be slow for any of them.  Each wildcard with
the literal text after it is matched once, at the earliest place, and never tried again: that is
enough for patterns of these two wildcards, and keeps `*a*a*a*a*` from growing exponentially.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

INBOX: Final = "INBOX"
_WILDCARDS: Final = re.compile(r"[*%]+")


def fold_inbox(name: str, separator: str) -> str:
    """The name with INBOX, alone or as the first level, in capitals: "inbox/x" is "INBOX/x".

    Clients may write INBOX in any letter case (RFC 3501 section 5.1); we know it in one.
    """
    head = name[: len(INBOX)]
    if head.upper() != INBOX or head == INBOX:
        return name
    rest = name[len(INBOX) :]
    return INBOX + rest if not rest or rest.startswith(separator) else name


def _pieces(pattern: str) -> list[tuple[str, str]]:
    """(wildcard, literal text after it) pairs; the first has no wildcard.  "a%%b" is "a%b"."""
    pieces = []
    wildcard, start = "", 0
    for run in _WILDCARDS.finditer(pattern):
        pieces.append((wildcard, pattern[start : run.start()]))
        wildcard, start = ("*" if "*" in run[0] else "%"), run.end()
    pieces.append((wildcard, pattern[start:]))
    return pieces


def _regex(pattern: str, separator: str) -> str:
    """An expression for re.fullmatch that backtracks at most over one wildcard."""
    within_level = f"[^{re.escape(separator)}]" if separator else "."
    *pieces, (last_wildcard, last_literal) = _pieces(pattern)
    regex, open_groups = "", 0
    for wildcard, literal in pieces:
        if wildcard == "*":
            # What stands before a `*` is settled: nothing after it can want another match.
            regex += ")" * open_groups + f"(?>.*?{re.escape(literal)}"
            open_groups = 1
        elif wildcard == "%":
            regex += f"(?>{within_level}*?{re.escape(literal)})"
        else:
            regex += re.escape(literal)
    if last_wildcard == "*":
        regex += ")" * open_groups + ".*"
    elif last_wildcard == "%":
        # The literal at the end is bound to the end, so the last chunk may start anywhere: its
        # group must not be atomic.
        if open_groups:
            at = regex.rindex("(?>.*?")
            regex = regex[:at] + "(?:" + regex[at + 3 :] + ")"
        regex += f"{within_level}*"
    return regex + re.escape(last_literal)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One LIST pattern, compiled for one hierarchy separator."""

    text: str
    separator: str
    exact: re.Pattern[str]
    any_case: re.Pattern[str]

    def matches(self, name: str) -> bool:
        if name == INBOX:
            return self.any_case.fullmatch(name) is not None
        return self.exact.fullmatch(name) is not None


def compile_pattern(text: str, separator: str) -> Pattern:
    """Never raises: every string is a pattern, if only for names that cannot exist."""
    regex = _regex(fold_inbox(text, separator), separator)
    return Pattern(
        text, separator, re.compile(regex, re.DOTALL), re.compile(regex, re.DOTALL | re.IGNORECASE)
    )


def compile_patterns(texts: Sequence[str], separator: str) -> tuple[Pattern, ...]:
    return tuple(compile_pattern(text, separator) for text in texts)


def literal_start(text: str) -> str:
    """What every name that the pattern matches must begin with: the text before a wildcard."""
    return _WILDCARDS.split(text, maxsplit=1)[0]
