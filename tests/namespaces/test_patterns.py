"""LIST patterns: the table of the RFC, and agreement with a plain dynamic-programming matcher."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.namespaces.patterns import compile_pattern, fold_inbox, literal_start

CASES = [  # pattern, separator, name, matches
    ("*", "/", "a/b/c", True),
    ("%", "/", "a", True),
    ("%", "/", "a/b", False),
    ("%/%", "/", "a/b", True),
    ("a/%", "/", "a/b/c", False),
    ("a/*", "/", "a/b/c", True),
    ("a*", "/", "a/b/c", True),
    ("a.%", ".", "a.b", True),
    ("%", ".", "a/b", True),  # the separator of this namespace is the dot
    ("*c", "/", "a/b/c", True),
    ("%c", "/", "a/b/c", False),
    ("*/%c", "/", "a/b/xc", True),
    ("*/%c", "/", "a/b/c/d", False),
    ("*a%b", "/", "a/ab", True),
    ("*a%b", "/", "a1b/a2b", True),
    ("*a%b", "/", "a1b/c", False),
    ("inbox", "/", "INBOX", True),
    ("InB%", "/", "INBOX", True),
    ("inbox/%", "/", "INBOX/x", True),
    ("inboxes", "/", "INBOXES", False),
    ("work", "/", "Work", False),
    ("", "/", "a", False),
    ("a[b]", "/", "a[b]", True),
    ("a[b]", "/", "ab", False),
    ("*\n*", "/", "a\nb", True),
]


@pytest.mark.parametrize(("pattern", "separator", "name", "want"), CASES)
def test_patterns(pattern: str, separator: str, name: str, want: bool) -> None:
    assert compile_pattern(pattern, separator).matches(name) is want


def plain_match(pattern: str, name: str, separator: str) -> bool:
    """The definition, one character at a time."""
    reached = {0}
    for char in pattern:
        if char == "*":
            reached = set(range(min(reached), len(name) + 1)) if reached else set()
        elif char == "%":
            grown = set()
            for start in reached:
                end = start
                grown.add(end)
                while end < len(name) and name[end] != separator:
                    end += 1
                    grown.add(end)
            reached = grown
        else:
            reached = {at + 1 for at in reached if at < len(name) and name[at] == char}
    return len(name) in reached


@given(st.text("ab/*%", max_size=10), st.text("ab/", max_size=12))
def test_agrees_with_the_definition(pattern: str, name: str) -> None:
    assert compile_pattern(pattern, "/").matches(name) == plain_match(pattern, name, "/")


@pytest.mark.parametrize("pattern", ["*a" * 300 + "b", "%a" * 300 + "b", "*a%" * 200 + "b"])
def test_no_pattern_is_slow(pattern: str) -> None:
    start = time.perf_counter()
    assert not compile_pattern(pattern, "/").matches("a" * 1000)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("name", "want"),
    [("inbox", "INBOX"), ("Inbox/x", "INBOX/x"), ("inboxes", "inboxes"), ("x", "x"), ("", "")],
)
def test_inbox_folds(name: str, want: str) -> None:
    assert fold_inbox(name, "/") == want


def test_literal_start() -> None:
    assert literal_start("shared/al%ce*") == "shared/al"
