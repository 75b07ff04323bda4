"""The report in a real Chromium: what is to be read, keys, phone, paper, colours, speed."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharefs.audit.report.html import render
from sharefs.audit.report.matrix import (
    LETTERS,
    Cell,
    Mailbox,
    Matrix,
    MatrixBuilder,
    User,
    letters_of,
)
from sharefs.audit.report.model import ReportModel, summary_of
from tests.audit_report.chromium import Page, browser
from tests.audit_report.sample import MADE, large, large_matrix, office
from tests.audit_report.test_html import EVIL, evil_model

pytestmark = pytest.mark.browser

READY = "document.documentElement?.dataset.ready"
Show = Callable[[ReportModel], Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def show(chromium: Page, tmp_path: Path) -> Show:
    """Opens a report; afterwards nothing may have complained or been loaded."""

    def opened(model: ReportModel) -> Page:
        file = tmp_path / "report.html"
        file.write_text(render(model), encoding="utf-8")
        chromium.resize(1280, 900)
        chromium.prefer("light")
        chromium.open(file, ready=READY)
        chromium.settle()
        assert chromium.requests == [file.as_uri()]
        return chromium

    return opened


@pytest.fixture(autouse=True)
def _no_complaints(chromium: Page) -> Iterator[None]:
    yield
    assert chromium.complaints == []


def label(page: Page) -> str:
    """What a screen reader is told about the active cell."""
    return str(page.ask("document.getElementById('active-cell').textContent"))


def test_the_answer_is_the_first_thing_to_read(show: Show) -> None:
    page = show(office())
    assert page.text("h1") == "4 leaks and 3 grants that cannot work"
    assert page.ask("document.title").startswith("4 leaks")
    assert "24 users and 171 mailboxes" in page.text("#facts")
    assert page.text(".finding .title").endswith("eve can read bob's mail with a shell")
    page.click_on(".finding summary")
    body = page.text(".finding .body")
    for part in ("drwxr-x---  bob:sharedmail", "Why it matters", "gpasswd -d eve sharedmail"):
        assert part in body


def test_marks_of_every_severity_are_of_one_size(show: Show) -> None:
    page = show(office())
    sizes = "[...document.querySelectorAll({})].map(e => e.getBoundingClientRect().height)"
    assert max(page.ask(sizes.format("'.finding .dot'"))) < 16
    heights = page.ask(sizes.format("'.finding > summary'"))
    assert max(heights) - min(heights) < 2
    page.press("3")
    page.click_on("#tree-problems")
    page.settle()
    assert len(page.ask(sizes.format("'.tree-row .mark'"))) == 4
    assert max(page.ask(sizes.format("'.tree-row .mark'"))) < 16


def test_findings_are_searched_and_filtered(show: Show) -> None:
    page = show(office())
    page.press("/")
    page.type("setgid")
    page.wait("document.querySelectorAll('.finding').length === 1")
    assert page.text("#findings-result") == "1 of 7 findings"
    page.type(" nothing like it")
    page.wait("document.querySelector('#findings-list .empty')")
    page.click_on("#findings-list .empty button")
    page.wait("document.querySelectorAll('.finding').length === 7")
    page.click_on("#severities [data-value=notice]")
    assert page.ask("document.querySelectorAll('.finding').length") == 2


def test_from_a_finding_to_its_cell(show: Show) -> None:
    page = show(office())
    page.click_on(".finding summary")
    page.click_on(".finding .link")
    assert label(page) == "eve, bob/INBOX: nothing; leak: a shell has lr"
    assert "with a shell this user can see that it exists and read messages" in page.text("#panel")


def test_the_grid_by_keyboard(show: Show) -> None:
    page = show(office())
    page.press("2")
    assert page.ask("document.activeElement.id") == "grid"
    assert label(page).startswith("alice, alice/Projects: administers")
    page.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert label(page) == "bob, alice/Projects: reads and writes"
    page.press("n")
    assert label(page) == "bob, alice/Projects/2026: reads; the kernel denies wsi"
    page.press("n", "n", "n")
    assert label(page).startswith("nils, mia/INBOX")
    page.press("p", "p")
    assert label(page).startswith("carla, alice/Projects/2026")
    page.press("Control+End")
    assert label(page) == "uwe, Public/support: not known"
    page.press("Home", "PageUp", "Control+Home")
    assert label(page).startswith("alice, alice/Projects")
    roles = page.ask(
        "['grid', 'row', 'gridcell'].map(r => document.querySelectorAll(`[role=${r}]`).length)"
    )
    assert roles == [1, 1, 1]
    page.press("u")
    assert "alice/INBOX" in page.text("#panel")
    page.press("Escape")
    assert page.ask("document.getElementById('panel').hidden")
    assert page.ask("document.activeElement.id") == "grid"


def test_the_panel_does_not_push_its_cell_out_of_sight(show: Show) -> None:
    page = show(large(200, 20))
    page.press("2")
    page.press(*["ArrowRight"] * 48)
    page.press("Enter")
    page.settle()
    room = page.ask(
        "(g => g.clientWidth + g.scrollLeft"
        " - document.getElementById('active-cell').getAttribute('aria-colindex') * 22)"
        "(document.getElementById('grid'))"
    )
    assert room >= 90, "the names at the left take that much"


def test_everything_can_be_reached_with_tab(show: Show) -> None:
    page = show(office())
    # A click of the test before may still be on its way when this page opens, and Tab would go on
    # from there.  The round begins at the first thing a keyboard meets, wherever that was.
    page.ask("document.querySelector('.skip').focus()")
    seen = ["skip"]
    for _ in range(40):
        page.press("Tab")
        here = page.ask("document.activeElement.id || document.activeElement.className")
        seen.append(here or page.ask("document.activeElement.tagName"))
    order = ["skip", "theme", "help-button", "tab-findings", "findings-search", "rules"]
    places = [seen.index(name) for name in order]
    assert places == sorted(places)
    assert "SUMMARY" in seen
    page.press("?")
    assert page.ask("document.getElementById('help').open")
    page.press("Escape")
    assert not page.ask("document.getElementById('help').open")


def test_who_reads_a_mailbox_and_why_not(show: Show) -> None:
    page = show(office())
    page.press("2")
    page.click_on("#cell-filter [data-value=blocked]")
    page.ask("document.getElementById('grid').focus()")
    page.press("Control+End", "n", "p", "Enter")
    panel = page.text("#panel")
    assert panel.startswith("nils")
    assert "The ACL lets this user see that it exists and read messages" in panel
    assert "/home/mia/Maildir is drwx------ mia mia" in panel
    page.click_on("#panel .sub .link")
    assert page.text("#panel h2") == "mia/INBOX"
    assert "Granted, but refused by the kernel · 1 user" in page.text("#panel")


def test_where_no_shell_can_do_more_there_is_no_third_column(show: Show) -> None:
    page = show(office())
    page.press("2")
    page.ask("document.getElementById('user-search').focus()")
    page.type("kim")
    page.wait("document.getElementById('access-result').textContent.includes('1 of 24 users')")
    page.ask("document.getElementById('grid').focus()")
    page.press("Enter")
    assert page.ask("document.querySelectorAll('#panel thead th').length") == 3


LEVELS = [  # rights -> what the cell is called
    ("", "nothing"), ("l", "sees that it exists"), ("lr", "reads"), ("lrs", "reads"),
    ("lrsip", "reads and writes"), ("lrwstipe", "reads and writes"), (LETTERS, "administers"),
]  # fmt: skip


def test_levels_have_their_names(show: Show) -> None:
    builder = MatrixBuilder([User(str(at)) for at in range(len(LEVELS))])
    builder.add(
        Mailbox("m"), {at: Cell.of(rights, rights) for at, (rights, _) in enumerate(LEVELS)}
    )
    page = show(ReportModel("h", MADE, matrix=builder.build()))
    page.press("2")
    page.click_on("#cell-filter [data-value=all]")
    page.ask("document.getElementById('grid').focus()")
    page.press("Home")
    for at, (_, name) in enumerate(LEVELS):
        assert label(page) == f"{at}, m: {name}"
        page.press("ArrowRight")


def test_a_click_on_a_name_tells_all_about_it(show: Show) -> None:
    page = show(office())
    page.press("2")
    x, y = page.ask(
        "(r => [r.x + 40, r.y + 90])(document.querySelector('canvas').getBoundingClientRect())"
    )
    page.click(x, y)
    assert page.text("#panel h2") in ("alice/Projects", "alice/Projects/2026")


def test_the_tree_opens_closes_and_is_searched(show: Show) -> None:
    page = show(office())
    page.press("3")
    first = page.text(".tree-row")
    assert "/home" in first
    assert "drwxr-xr-x" in first
    assert page.ask("document.querySelector('[role=tree]').contains(document.activeElement)")
    page.press("ArrowDown", "ArrowLeft")
    assert (
        page.ask("document.querySelector('.tree-row.active').getAttribute('aria-expanded')")
        == "false"
    )
    page.press("ArrowRight", "ArrowRight")
    assert page.ask("document.querySelector('.tree-row.active').getAttribute('aria-level')") == "3"
    page.click_on("#tree-problems")
    assert page.text("#tree-result") == "4 of 196 directories"
    page.click_on("#tree-search")
    page.type("pavel")
    page.wait("document.getElementById('tree-result').textContent.startsWith('1 of')")
    assert ".Archive" in page.text("#tree-view")


@pytest.mark.parametrize("name", EVIL, ids=range(len(EVIL)))
def test_hostile_names_run_nothing_and_break_nothing(show: Show, name: str) -> None:
    page = show(evil_model(name))
    page.ask("window.alert = () => { throw new Error('a name ran'); }")
    page.click_on(".finding summary")
    page.press("2", "Enter")
    page.press("3")
    assert page.ask("document.querySelectorAll('script').length") == 2  # data, code; cells are read
    assert page.ask("document.querySelectorAll('img, iframe').length") == 0
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    page.press("1")
    assert page.ask("document.documentElement.scrollHeight") < 4000


def test_with_empty_hands(show: Show) -> None:
    page = show(ReportModel("quiet.example.org", MADE))
    assert page.text("h1") == "No mailboxes were found"
    assert "No mailboxes yet" in page.text("#access-empty")
    page.press("1")
    assert "it cannot say that all is well" in page.text("#findings-list")
    page.press("3")
    assert "No directories" in page.text("#tree-empty")


def test_when_all_is_well(show: Show) -> None:
    builder = MatrixBuilder([User("ann")])
    builder.add(Mailbox("ann/INBOX", "ann"), {0: Cell.of(LETTERS, LETTERS)})
    page = show(ReportModel("quiet.example.org", MADE, matrix=builder.build()))
    assert page.text("h1") == "Everything agrees"
    page.press("1")
    assert "Every check passed" in page.text("#findings-list")


def test_on_a_phone(show: Show) -> None:
    page = show(office())
    page.resize(360, 700, scale=2, mobile=True)
    page.settle()
    for tab in "123":
        page.press(tab)
        assert page.ask("document.documentElement.scrollWidth <= 360"), tab
    page.press("3")
    page.settle()
    assert page.ask("document.querySelector('.tabs').getBoundingClientRect().top") < 1
    page.click_on("#tree-problems")
    marks = page.ask(
        "[...document.querySelectorAll('.mark')].map(e => e.getBoundingClientRect().x)"
    )
    assert len(marks) == 4
    assert max(marks) < 150, "beside the name, which may be cut"
    page.press("2")
    page.press("n", "Enter")
    box = page.ask(
        "(r => [r.left, r.bottom, r.width])"
        "(document.getElementById('panel').getBoundingClientRect())"
    )
    assert box == [0, 700, 360]
    row = page.ask(
        "document.getElementById('active-row').getAttribute('aria-rowindex') * 22"
        " + (g => g.getBoundingClientRect().top - g.scrollTop)(document.getElementById('grid'))"
    )
    top = page.ask("document.getElementById('panel').getBoundingClientRect().top")
    assert row + 54 < top, "the panel covers what it is about"
    sizes = page.ask(
        "[...document.querySelectorAll('.chips button, .tabs button')]"
        ".filter(b => b.checkVisibility()).map(b => b.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 40, "too small for a finger"


def test_colours_follow_the_system_and_the_button(show: Show) -> None:
    page = show(office())
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.ask(paper)
    page.prefer("dark")
    page.wait(f"{paper} !== {light!r}")
    page.click_on("#theme")
    assert page.ask(paper) == light


# Contrast of text on its background as WCAG 2.1 section 1.4.3 computes it.
CONTRAST = """(() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue('--' + name).trim().slice(1);
    const [r, g, b] = [0, 2, 4].map(at => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return PAIRS.map(([ink, paper]) => {
    const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
    return [ink, paper, (high + 0.05) / (low + 0.05)];
  });
})()"""
PAIRS = [
    ["ink", "paper"], ["ink", "sunken"], ["soft", "paper"], ["soft", "raised"], ["soft", "sunken"],
    ["faint", "paper"], ["bad", "raised"], ["warn", "raised"], ["on-read", "read"],
    ["on-write", "write"], ["on-own", "own"], ["ink", "bad-wash"], ["ink", "warn-wash"],
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(show: Show, scheme: str) -> None:
    page = show(office())
    page.prefer(scheme)
    page.settle()
    found: list[Any] = page.ask(CONTRAST.replace("PAIRS", str(PAIRS)))
    assert [pair for pair in found if pair[2] < 4.5] == []


def test_on_paper(show: Show) -> None:
    page = show(office())
    page.ask("dispatchEvent(new Event('beforeprint'))")
    paper = str(page.ask("document.getElementById('print').textContent"))
    for part in (
        "Where the ACL and the kernel disagree", "gpasswd -d eve sharedmail",
        "carla, chen, dora, eve", "mailboxes that nobody but the owner can read",
        "pavel, quinn (with a shell), rosa (with a shell), sam (with a shell)",
    ):  # fmt: skip
        assert part in paper
    assert page.pdf().startswith(b"%PDF")


def matrix_of_all_kinds() -> Matrix:
    """What cannot be compressed travels as it is."""
    chance = random.Random(7)
    kinds = [Cell(acl=at, kernel=at, shell=at ^ at % 3) for at in range(256)]
    builder = MatrixBuilder([User(str(at)) for at in range(90)])
    for at in range(200):
        builder.add(Mailbox(str(at)), {user: chance.choice(kinds) for user in range(90)})
    return builder.build()


@pytest.mark.parametrize(
    "matrix", [office().matrix, large_matrix(120, 300), matrix_of_all_kinds(), large_matrix(2, 2)],
    ids=["office", "dynamic codes", "stored", "fixed codes"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["delete globalThis.DecompressionStream", ""])
def test_the_same_cells_with_and_without_a_decompressor(
    show: Show, chromium: Page, matrix: Matrix, how: str
) -> None:
    """Older browsers have none: the report inflates by itself."""
    with chromium.before_load(how):
        page = show(ReportModel("h", MADE, matrix=matrix))
    summary = summary_of(ReportModel("h", MADE, matrix=matrix))
    tiles = page.ask("[...document.querySelectorAll('#tiles b')].slice(0, 2).map(b => b.innerText)")
    assert tiles == [f"{summary.leaked:,}", f"{summary.blocked:,}"]
    page.click_on("#tab-access")
    page.click_on("#cell-filter [data-value=all]")
    page.ask("document.getElementById('grid').focus()")
    page.press("Control+End", "Home", "Enter")
    cell = matrix.cell(len(matrix.mailboxes) - 1, 0)
    if not cell.unknown:
        marks = page.ask(
            "[...document.querySelectorAll('#panel tbody td:nth-child(2)')].map(c => c.className)"
        )
        pairs = zip(LETTERS, marks, strict=True)
        assert "".join(letter for letter, mark in pairs if mark == "yes") == letters_of(cell.acl)


def test_fluid_with_five_million_cells(show: Show) -> None:
    page = show(large())
    assert page.text("#tiles li:last-child b") == "5,000"
    page.press("2")
    page.click_on("#cell-filter [data-value=all]")
    frames = page.ask(SCROLL)
    assert frames["down"] > 40_000
    assert frames["across"] > 9_000
    # What a frame costs is what there is to lay out, on a busy machine too.  On a quiet one it is
    # 3 ms of work, and 16.7 ms between frames, the display's own pace.
    assert frames["most"] < 5_000, "elements at any time; 3,246 of five million cells' worth"
    page.ask("document.getElementById('mailbox-search').focus()")
    page.type("user0500/")
    page.wait("document.getElementById('access-result').textContent.startsWith('5 of 5,000')")


# Scrolls by most of a screen for each frame.
SCROLL = """new Promise(done => {
  const grid = document.getElementById('grid');
  let frames = 0, most = 0;
  const step = () => {
    most = Math.max(most, document.getElementsByTagName('*').length);
    grid.scrollTop += 617;
    grid.scrollLeft += 133;
    if (++frames < 90) return requestAnimationFrame(step);
    done({ most, down: grid.scrollTop, across: grid.scrollLeft });
  };
  requestAnimationFrame(step);
})"""
