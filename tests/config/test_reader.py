"""The language: text to blocks and assignments, includes, and everything that can be wrong."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharefs.config import Config, ConfigError, Severity, Variables, examine, load
from sharefs.config.problems import Problem, Problems
from sharefs.config.reader import MAX_LINE, Assign, Block, Reader


def tree_of(text: str) -> tuple[object, list[Problem]]:
    """The tree as nested tuples, and the problems."""
    problems = Problems()
    root = Reader(problems).read_text(text, "t")
    return plain(root), list(problems.sorted())


def plain(block: Block) -> list[object]:
    return [
        (item.name, item.value)
        if isinstance(item, Assign)
        else (item.kind, item.names, plain(item))
        for item in block.items
    ]


CASES = {
    "plain": ("a = b", [("a", "b")]),
    "no spaces": ("a=b", [("a", "b")]),
    "empty": ("prefix =", [("prefix", "")]),
    "value with spaces": ("a =  b  c ", [("a", "b  c")]),
    "equals in value": ("a = x=y", [("a", "x=y")]),
    "comment line": ("# a = b\n  # c\nd = e", [("d", "e")]),
    "comment after value": ("a = b # c", [("a", "b")]),
    "hash inside quotes": ('a = say "b # c" d # e', [("a", 'say "b # c" d')]),
    "lone apostrophe": ("a = it's # c", [("a", "it's # c")]),
    "comment only value": ("a = # c", [("a", "")]),
    "double quotes": ('a = "b # c "', [("a", "b # c ")]),
    "single quotes": ("a = 'b \" c'", [("a", 'b " c')]),
    "escapes in quotes": (r'a = "b \" \\ c"', [("a", r'b " \ c')]),
    "quotes then comment": ('a = "b" # c', [("a", "b")]),
    "quotes inside": ('a = say "x"', [("a", 'say "x"')]),
    "continuation": ("a = b \\\n   c\\\n d", [("a", "b c d")]),
    "tabs": ("\ta\t=\tb\t", [("a", "b")]),
    "crlf": ("a = b\r\nc = d\r\n", [("a", "b"), ("c", "d")]),
    "block": ("x {\n a = b\n}", [("x", (), [("a", "b")])]),
    "named block": ("x y {\n}", [("x", ("y",), [])]),
    "quoted name": ('mailbox "Sent Items" {\n}', [("mailbox", ("Sent Items",), [])]),
    "two names": ("x y z {\n}", [("x", ("y", "z"), [])]),
    "brace without space": ("x y{\n}", [("x", ("y",), [])]),
    "name with slashes": ("m a/$to/b {\n}", [("m", ("a/$to/b",), [])]),
    "nested": ("x {\ny {\na = b\n}\n}", [("x", (), [("y", (), [("a", "b")])])]),
    "one line": ("x { a = yes }", [("x", (), [("a", "yes")])]),
    "one line nested": ("x { y z { p = 1 } }", [("x", (), [("y", ("z",), [("p", "1")])])]),
    "empty on one line": ("x { }", [("x", (), [])]),
    "variable braces": ("a = %{user | domain}", [("a", "%{user | domain}")]),
    "value ends in brace": ("x {\na = %{user}\n}", [("x", (), [("a", "%{user}")])]),
    "one line with variable": ("x { a = %{user} }", [("x", (), [("a", "%{user}")])]),
    "here-document": ("a = <<END\n x # y\n}\nEND\nb = c", [("a", " x # y\n}\n"), ("b", "c")]),
    "closing with comment": ("x {\n} # end\na = b", [("x", (), []), ("a", "b")]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "want"), CASES.values(), ids=CASES)
def test_language(text: str, want: list[object]) -> None:
    assert tree_of(text) == (want, [])


BROKEN = {
    "closes nothing": ("a = b\n}\n", "brace", 2),
    "never closed": ("a = b\nx {\nc = d\n", "brace", 2),
    "no operator": ("a b c\n", "syntax", 1),
    "open quote": ('a = "b\n', "quote", 1),
    "hash inside a word": ("a = b#c\n", "ambiguous-comment", 1),
    "endless here-document": ("\na = <<END\nx\n", "syntax", 2),
    "nul": ("\na = b\0c\n", "nul", 2),
    "unknown directive": ("!incldue x\n", "syntax", 1),
    "include nothing": ("!include\n", "syntax", 1),
    "two on one line": ("x { a = b c = d }\n", "syntax", 1),
    "no match": ("!include /nonexistent/x.conf\n", "include", 1),
    "long line": ("a = b\nc = " + "x" * MAX_LINE + "\n", "long-line", 2),
    "deep": ("x {\n" * 200 + "}\n" * 200, "depth", 17),
}  # fmt: skip


@pytest.mark.parametrize(("text", "check", "line"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_says_where(text: str, check: str, line: int) -> None:
    _, problems = tree_of(text)
    assert [(each.check, each.place.line) for each in problems] == [(check, line)]
    severity = Severity.WARNING if check == "ambiguous-comment" else Severity.ERROR
    assert {each.severity for each in problems} == {severity}


def test_a_megabyte_line_is_refused_quickly() -> None:
    for filler in ("x", "} ", '"', "# ", "%{", "\\", "$a "):
        began = time.monotonic()
        examine(text="mail_path = " + filler * (1 << 20))
        assert time.monotonic() - began < 2, filler


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def findings(config: Config) -> list[tuple[str, str, int]]:
    return [(each.check, Path(each.place.file).name, each.place.line) for each in config.problems]


def test_includes(tmp_path: Path) -> None:
    main = write(
        tmp_path / "main.conf",
        "mail_path = /a\n!include conf.d/*.conf\nlog_path = /l\n!include_try none.conf\n",
    )
    write(tmp_path / "conf.d/10.conf", "mail_path = /b\nnamespace inbox {\n  inbox = yes\n}\n")
    write(tmp_path / "conf.d/20.conf", "mail_path = /c\n")
    found = load(main).settings()
    assert found.mail_path == "/c"
    assert found.origin("mail_path") == f"{tmp_path}/conf.d/20.conf:1"
    assert found.origin("log_path") == f"{main}:3"


def test_include_inside_a_block(tmp_path: Path) -> None:
    main = write(tmp_path / "main.conf", "namespace inbox {\n!include in.conf\n}\n")
    write(tmp_path / "in.conf", "inbox = yes\nseparator = /\n")
    assert load(main).settings().namespace("inbox").separator == "/"


def test_include_loops_end(tmp_path: Path) -> None:
    main = write(tmp_path / "main.conf", "!include b.conf\n")
    write(tmp_path / "b.conf", "mail_path = /x\n!include main.conf\n")
    assert findings(examine(main)) == [("include-loop", "b.conf", 2)]
    os.symlink("main.conf", tmp_path / "same.conf")
    write(tmp_path / "b.conf", "mail_path = /x\n!include same.conf\n")
    assert findings(examine(main)) == [("include-loop", "b.conf", 2)]


def test_a_block_ends_in_its_own_file(tmp_path: Path) -> None:
    main = write(tmp_path / "main.conf", "!include b.conf\n}\n")
    write(tmp_path / "b.conf", "namespace inbox {\ninbox = yes\n")
    assert findings(examine(main)) == [("brace", "main.conf", 2), ("brace", "b.conf", 1)]


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("missing", ".", "fifo"):
        found = examine(tmp_path / name)
        assert [each[0] for each in findings(found)][:1] == ["unreadable"]
    main = write(tmp_path / "main.conf", f"!include {tmp_path}\n!include fifo\n")
    assert findings(examine(main)) == [("unreadable", "main.conf", n) for n in (1, 2)]


def test_who_has_no_configuration_is_told_what_to_do(tmp_path: Path) -> None:
    """The file itself can be written; a line that includes what cannot be read can go."""
    main = tmp_path / "main.conf"
    (missing,) = (each for each in examine(main).problems if each.check == "unreadable")
    assert missing.remedy == "write it, or name another one with -c"
    (tmp_path / "more.conf").mkdir()
    main.write_text("!include more.conf\n")
    (missing,) = (each for each in examine(main).problems if each.check == "unreadable")
    assert missing.remedy == "make it readable, or take it out"


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.conf.*No such file"):
        load(tmp_path / "missing.conf")


def test_encodings(tmp_path: Path) -> None:
    bom = write(tmp_path / "bom.conf", b"\xef\xbb\xbfmail_path = /x\r\nlog_path = /y\r\n")
    found = load(bom).settings()
    assert (found.mail_path, found.log_path) == ("/x", "/y")
    bad = write(tmp_path / "bad.conf", b"mail_path = /x\nlog_path = /\xff\n")
    assert findings(examine(bad)) == [("bad-utf8", "bad.conf", 2)]
    unicode = write(tmp_path / "u.conf", "mail_path = /büro\n")
    assert load(unicode).settings().mail_path == "/büro"


WORDS = st.sampled_from(
    ["namespace", "inbox", "{", "}", "=", "+=", "\n", "\n", " ", "mail_path", "mail_plugins", "acl",
     "plugin", "passdb", "userdb", "args", "driver", "prefix", "shared/%%u/", "$user", "dict",
     "$mail_plugins", "%{user | lower}", "%{", "%u", "%", "\\", '"', "'", "#", "!include", "file",
     "!include_try", "/dev/null", "location", "maildir:~/x:INDEX=", ":", "type", "shared", "yes",
     "mail_location", "service", "port", "acl_sharing_map", "path", "protocol imap", "mailbox",
     "dovecot_config_version", "2.3", "<", "$ENV:HOME", "99999999999", "fields", "rights", "\0",
     "\ufeff", "local", "separator"]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=60).map(" ".join))


@settings(max_examples=400)
@given(TEXTS)
def test_garbage_is_a_config_or_a_config_error(text: str) -> None:
    found = examine(text=text, lookup_group=lambda name: True)
    assert all(each.message and each.place.file for each in found.problems)
    try:
        config = load(text=text, lookup_group=lambda name: True)
    except ConfigError as error:
        if error.problems == found.problems:
            return
        raise
    config.settings(variables=Variables(user="bob@x", home="/home/bob"))


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_garbage_octets_are_a_config_or_a_config_error(octets: bytes) -> None:
    path = Path(f"/dev/shm/sharefs-test-{os.getpid()}.conf")
    try:
        path.write_bytes(octets)
        for each in examine(path).problems:
            assert each.place.file
    finally:
        path.unlink(missing_ok=True)
