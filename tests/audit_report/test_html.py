"""The HTML file without a browser: nothing from elsewhere, nothing gets out of its quotes."""

import base64
import hashlib
import json
import re
import zlib
from array import array
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharefs.audit.findings import Severity
from sharefs.audit.report.html import SCRIPTS, json_block, packed_cells, render
from sharefs.audit.report.matrix import Cell, Mailbox, Matrix, MatrixBuilder, User
from sharefs.audit.report.model import Directory, Problem, ReportModel
from tests.audit_report.sample import MADE, large_matrix, office

EVIL = [
    "</script><script>alert(1)</script>", "<!--<script>", "-->", "<img src=x onerror=alert(1)>",
    "'\"`${alert(1)}", "&lt;&amp;", "@script@@data@", "\u202egnp.exe", "\x00\x1b[2J", "\u2028",
    "x" * 10_000, "عربي/עברית", "\udcff\udc80", "]]>", "__proto__",
]  # fmt: skip


class Shape(HTMLParser):
    """The elements of a page, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.held: dict[str, str] = {}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.held[self._inside] = self.held.get(self._inside, "") + data


def evil_model(name: str) -> ReportModel:
    """That name wherever a name may be."""
    problem = Problem(name, Severity.CRITICAL, name, name, (name,), name, name, (name,), name, name)
    builder = MatrixBuilder([User(name), User("bob")])
    builder.add(Mailbox(name, name, name), {1: Cell.of("lr", "", "a")}, notes={1: name})
    return ReportModel(
        host=name, made=MADE, config=name, problems=(problem,), matrix=builder.build(),
        tree=(Directory(0, name, "drwx------", name, name, name, name),), notes=(name,),
    )  # fmt: skip


def data_of(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Shape(text).held["data"])
    return data


def test_it_is_one_file_and_asks_nobody() -> None:
    text = render(office())
    page = Shape(text)
    loading = {"src", "srcset", "href", "action", "data", "poster", "background"}
    links = {
        value
        for _, attrs in page.tags
        for name, value in attrs.items()
        if name in loading and value
    }
    assert links == {"data:,", "#main"}
    assert not re.search(r"https?://|@import|url\(|@font-face|fetch\(|XMLHttp|WebSocket", text)


def test_the_policy_allows_this_script_and_this_style_alone() -> None:
    page = Shape(render(office()))
    policy = next(attrs["content"] or "" for _, attrs in page.tags if attrs.get("http-equiv"))
    for directive, name in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(page.held[name].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_scripts_never_parse_text_as_markup_or_code() -> None:
    script = Shape(render(office())).held["script"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "new Function", "DOMParser", "javascript:"):  # fmt: skip
        assert word not in script


def test_each_script_file_is_there_in_order() -> None:
    script = Shape(render(office())).held["script"]
    marks = ["function octetsOf", "function make(", "class Access", "class Grid", "class Panel",
             "class Findings", "class Tree", "function paperOf", "function start"]  # fmt: skip
    places = [script.index(mark) for mark in marks]
    assert places == sorted(places)
    assert len(marks) == len(SCRIPTS)


@pytest.mark.parametrize("name", EVIL, ids=range(len(EVIL)))
def test_hostile_names_change_nothing_but_text(name: str) -> None:
    plain, evil = render(evil_model("name")), render(evil_model(name))
    evil.encode("utf-8")
    assert [tag for tag, _ in Shape(plain).tags] == [tag for tag, _ in Shape(evil).tags]
    assert Shape(plain).held["script"] == Shape(evil).held["script"]
    assert len(data_of(evil)["mailboxes"][0]) >= len(name)


@settings(max_examples=60)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=40))
def test_json_survives_and_cannot_end_its_element(text: str) -> None:
    written = json_block({"a": [text]})
    assert json.loads(written) == {"a": [text]}
    assert written.isascii()
    assert not set(written) & set("<>&")


def test_a_command_that_cannot_be_shown_is_not_offered_for_copying() -> None:
    model = ReportModel(
        "h", MADE,
        problems=(Problem("r", Severity.NOTICE, "t", commands=("chmod 700 'a\tb'", "ls")),),
    )  # fmt: skip
    (finding,) = data_of(render(model))["findings"]
    assert finding["commands"] == [["chmod 700 'a\\tb'", 0], ["ls", 1]]


def unpacked(matrix: Matrix) -> list[int]:
    page = Shape(render(ReportModel("h", MADE, matrix=matrix)))
    octets = zlib.decompress(base64.b64decode(page.held["cells"]))
    return list(array("B" if json.loads(page.held["data"])["octets"] == 1 else "H", octets))


def test_cells_arrive_as_they_were() -> None:
    matrix = large_matrix(10, 20)
    assert len(matrix.palette) < 257
    want = [number for row in range(20) for number in matrix.numbers(row)]
    assert unpacked(matrix) == want


def test_many_kinds_of_cells_take_two_octets() -> None:
    builder = MatrixBuilder([User(str(at)) for at in range(700)])
    builder.add(Mailbox("m"), {at: Cell(acl=at, kernel=at) for at in range(700)})
    matrix = builder.build()
    assert packed_cells(matrix)[1] == 2
    assert unpacked(matrix) == list(range(700))


def test_an_empty_audit_is_a_report_as_well() -> None:
    text = render(ReportModel("", MADE))
    assert "No mailboxes were found" in text
    assert data_of(text)["users"] == []


def test_five_million_cells_fit_in_an_attachment() -> None:
    matrix = large_matrix(1000, 5000)
    assert len(render(ReportModel("h", MADE, matrix=matrix))) < 3_000_000
