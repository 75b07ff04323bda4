"""The benchmark beside Dovecot, at a size that says nothing about speed: every row has figures."""

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.imap import __main__ as bench
from benchmarks.imap import crowd, tables
from benchmarks.imap.place import lasting
from benchmarks.imap.plot import plot
from benchmarks.imap.results import SERVERS, Result, shown
from benchmarks.imap.servers import UIDS, USER, DovecotSide, SharefsSide
from benchmarks.imap.tables import HOST, Report
from sharefs.index.place import NAME
from tests.support import server

TINY = ["--sizes=30", "--mailboxes=21", "--crowd=50", "--idle=6", "--runs=1", "--json"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cares here whether a server still works on something else while it is measured."""
    monkeypatch.setattr(SharefsSide, "quiet", 0.05)
    monkeypatch.setattr(DovecotSide, "quiet", 0.05)
    monkeypatch.setattr(crowd, "_SETTLE", 0.05)
    monkeypatch.setattr(server, "DROWSY", "2")


def measured(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, list[Result]]:
    assert bench.main([*TINY, *options]) == 0
    told = json.loads(capsys.readouterr().out)
    return {name: [Result.of(row) for row in section] for name, section in told["sections"].items()}


def faults(rows: list[Result]) -> list[str]:
    """An extension that a server lacks is told as such; anything else is a fault."""
    return [
        f"{row.name}: {server}: {row.missing.get(server, 'nothing measured')}"
        for row in rows
        for server in SERVERS
        if not row.has(server) and not row.missing.get(server, "").startswith("no ")
    ] + [f"{row.name}: {row.remark}" for row in rows if "differ" in row.remark]


@pytest.mark.superuser
@pytest.mark.dovecot
@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_every_row_is_measured_on_both_servers(
    open_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = measured(capsys, "--directory", str(open_tmp))
    assert set(sections) == {HOST, "30"}
    rows = [row for section in sections.values() for row in section]
    assert len(rows) > 35
    assert len({row.name for row in rows}) == len(rows)
    assert not faults(rows), "\n".join(faults(rows))
    assert list(open_tmp.iterdir()) == []


def names_and_indexes(top: Path) -> dict[str, int]:
    """Messages, whose names tell their flags, and inodes of what servers keep of them."""
    patterns = {"Maildir/*/*": False, ".cache/sharefs/index/**/*.sqlite3": True,
                "Maildir/*.cache": True}  # fmt: skip
    return {
        str(path.relative_to(top)): path.stat().st_ino if is_index else 0
        for name in SERVERS
        for pattern, is_index in patterns.items()
        for path in (top / name / USER).glob(pattern)
    }


@pytest.mark.superuser
@pytest.mark.dovecot
@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_what_is_kept_for_other_runs_stays_as_it_was(
    open_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--no-host", "--work", str(open_tmp / "work")]
    (prepared,) = measured(capsys, *work, "--prepare").values()
    assert not faults(prepared)
    assert [row.name for row in prepared] == [
        "SELECT, nothing known but UIDs", "first indexing of 30",
    ]  # fmt: skip
    top = open_tmp / "work" / "30"
    before = names_and_indexes(top)
    assert len(before) == 62

    # As a run leaves it that is cut short:
    for name in SERVERS:
        cur = top / name / USER / "Maildir" / "cur"
        one = next(path for path in sorted(cur.iterdir()) if path.name.endswith(",S"))
        one.rename(f"{one}R")
        (cur / "1800000000.M1P1.bench:2,S").write_bytes(one.with_name(one.name + "R").read_bytes())
        os.chown(cur / "1800000000.M1P1.bench:2,S", UIDS[USER], UIDS[USER])
    index = top / "sharefs" / USER / ".cache" / "sharefs" / "index"
    index.rename(index.with_name("aside-index"))
    with pytest.raises(BlockingIOError), lasting(lambda top: None, open_tmp / "work", "30"):
        bench.main([*TINY, *work])

    changing = ["SELECT, nothing", "STORE", "COPY", "MOVE", "QRESYNC", "UNSEEN"]
    (again,) = measured(capsys, *work, *(f"--only={name}" for name in changing)).values()
    assert not faults(again)
    assert len(again) == 7
    after = names_and_indexes(top)
    # Dovecot writes it anew to drop fields of which it does not know that anybody used them.
    cache = f"dovecot/{USER}/Maildir/dovecot.index.cache"
    before[cache] = after[cache]
    assert {name: after.get(name) for name in before} == before
    # What is left over is of the mailbox that was copied to, until the next run.
    assert {Path(name).name for name in after.keys() - before} <= {NAME}


def results() -> Report:
    """Two sizes and a host, with a row that one server lacks."""
    fast = Result(
        "FETCH <all>, 5,000", runs={"dovecot": [0.2, 0.4, 0.3], "sharefs": [0.1, 0.1, 0.1]}
    )
    slow = Result("NOOP", runs={"dovecot": [1e-4], "sharefs": [2e-4]}, remark="why")
    lacking = Result("QRESYNC", "seconds", {"dovecot": [1], "sharefs": []}, {"sharefs": "no X"})
    octets = Result("memory", "octets", {"dovecot": [1e6], "sharefs": [0.0]})
    facts = {"date": "2026-11-21", "load": "0.1", "processor": "2 x fast", "memory": "8 GiB",
             "kernel": "6", "python": "3.11", "dovecot": "2.3"}  # fmt: skip
    report = Report(facts, {HOST: [octets], "1000": [fast, slow, lacking], "50000": [fast, slow]})
    report.end(facts)
    return report


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(results().data()))
    assert Report.load(path) == results()


def test_only_what_was_measured_is_replaced() -> None:
    newer = results()
    newer.sections = {"1000": [Result("NOOP", runs={"dovecot": [3.0], "sharefs": [1.0]})]}
    merged = results().updated(newer)
    assert [row.name for row in merged.sections["1000"]] == [
        "FETCH <all>, 5,000", "NOOP", "QRESYNC",
    ]  # fmt: skip
    assert merged.sections["1000"][1].ratio == 3
    assert merged.sections["50000"] == results().sections["50000"]


def test_the_page_gets_tables_and_a_picture() -> None:
    text = tables.markdown(results())
    assert "| FETCH <all>, 5,000 | 300 ms ±33% | 100 ms ±0% | 3.00 |" in text
    assert "| NOOP (why) | 0.1 ms | 0.2 ms | **0.50** |" in text
    assert "| QRESYNC | 1 s | no X | - |" in text
    assert "| NOOP | 0.2 ms (0.50) | 0.2 ms (0.50) |" in text  # growth
    begin, end = tables._BEGIN.format(""), tables._END.format("")
    page = f"before\n{begin}\nold\n{end}\nafter\n"
    assert tables.replaced(page, "new") == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    with pytest.raises(ValueError, match="lacks"):
        tables.replaced("nothing", "new")
    titles = [
        one.text for one in ET.fromstring(plot(results())).iter() if one.tag.endswith("title")
    ]
    assert "FETCH <all>, 5,000, 1,000 messages: 3.00" in titles


def test_compiled_rows_stand_beside_those_of_pure_python() -> None:
    compiled = results()
    compiled.sections = {"1000": [Result("NOOP", runs={"dovecot": [1e-4], "sharefs": [8e-5]})]}
    compiled.machine["build"] = "61 modules compiled"
    text = tables.beside(results(), compiled)
    assert "| NOOP | 0.2 ms | 0.08 ms | 0.50 | 1.25 |" in text
    assert "61 modules compiled" in text


def test_the_page_has_a_place_for_both_builds() -> None:
    page = (bench.DOCS / "performance.md").read_text()
    for part in ("", tables.COMPILED):
        assert "measured" in tables.replaced(page, "measured", part)


@pytest.mark.parametrize(
    ("value", "unit", "want"),
    [
        (0.0000712, "seconds", "0.071 ms"), (0.0052, "seconds", "5.2 ms"),
        (0.45, "seconds", "450 ms"), (31.62, "seconds", "31.6 s"), (1.1e6, "octets", "1.1 MB"),
        (999.6e6, "octets", "1 GB"), (1.446e9, "octets", "1.45 GB"),
    ],
)  # fmt: skip
def test_figures_are_readable(value: float, unit: str, want: str) -> None:
    assert shown(value, "octets" if unit == "octets" else "seconds") == want
