"""The report as plain text."""

import pytest

from sharefs.audit.findings import Severity
from sharefs.audit.report.matrix import Cell, Mailbox, MatrixBuilder, User
from sharefs.audit.report.model import Problem, ReportModel, Summary, headline
from sharefs.audit.report.terminal import cell_text, matrix_lines, report_lines
from tests.audit_report.sample import MADE, large_matrix, office


def test_a_table_for_a_few() -> None:
    builder = MatrixBuilder([User("ann"), User("bob"), User("日本")])
    builder.add(
        Mailbox("ann/INBOX", "ann"),
        {0: Cell.of("lra", "lra"), 1: Cell.of("lrs", "lr"), 2: Cell.of("", "lr", "lr")},
    )
    builder.add(Mailbox("ann/Work", "ann"), {0: Cell(unknown=True)})
    assert list(matrix_lines(builder.build()))[:4] == [
        "Mailbox    ann  bob   日本",
        "---------  ---  ----  ----",
        "ann/INBOX  lra  lr-s  +lr",
        "ann/Work   ?    .     .",
    ]


def test_more_users_than_fit_are_mentioned() -> None:
    lines = list(matrix_lines(large_matrix(40, 3)))
    assert any("and 28 more users" in line for line in lines)
    assert "user0039" in next(iter(matrix_lines(large_matrix(40, 3), users=[39])))


def test_no_users() -> None:
    assert list(matrix_lines(MatrixBuilder(()).build())) == ["No users or no mailboxes."]


def test_cells() -> None:
    assert cell_text(Cell.of("lrx", "lr", "lrk")) == "lr-x+k"
    assert cell_text(Cell()) == "."


def test_the_answer_comes_first() -> None:
    lines = list(report_lines(office()))
    assert lines[0] == "4 leaks and 3 grants that cannot work."
    at = {text: number for number, text in enumerate(lines)}
    assert (
        at["[critical] eve can read bob's mail with a shell"]
        < at["[notice] A user who is gone still has access"]
    )
    assert "    # gpasswd -d eve sharedmail" in lines
    assert "  eve  bob/INBOX  +lr" in lines
    why = "/home/mia/Maildir is drwx------ mia mia: others may not search it"
    assert f"  nils  mia/INBOX  -lr  {why}" in lines


def test_all_is_well() -> None:
    builder = MatrixBuilder([User("ann")])
    builder.add(Mailbox("ann/INBOX", "ann"), {0: Cell.of("lr", "lr")})
    lines = list(report_lines(ReportModel("h", MADE, matrix=builder.build())))
    assert lines == ["Everything agrees.", "h: 1 user, 1 mailbox, 2026-03-14 06:25 UTC"]


def test_nothing_seen_is_not_nothing_wrong() -> None:
    assert next(report_lines(ReportModel("h", MADE))) == "No mailboxes were found."


HEADLINES = [  # leaked, blocked, unknown, severities -> headline
    (1, 0, 0, (), "1 leak"), (0, 1, 0, (), "1 grant that cannot work"),
    (1200, 2, 0, (Severity.CRITICAL,), "1,200 leaks and 2 grants that cannot work"),
    (0, 0, 0, (Severity.NOTICE, Severity.CRITICAL), "1 critical finding"),
    (0, 0, 0, (Severity.WARNING,) * 3, "3 warnings"), (0, 0, 0, (Severity.NOTICE,), "1 notice"),
    (0, 0, 7, (), "Nothing wrong found; 7 answers unknown"), (0, 0, 0, (), "Everything agrees"),
]  # fmt: skip


@pytest.mark.parametrize(("leaked", "blocked", "unknown", "severities", "says"), HEADLINES)
def test_the_headline(
    leaked: int, blocked: int, unknown: int, severities: tuple[Severity, ...], says: str
) -> None:
    found = {severity: severities.count(severity) for severity in Severity}
    assert headline(Summary(9, 9, leaked, blocked, unknown, found)) == says


def test_hostile_names_stay_on_their_line() -> None:
    evil = "a\n[critical] forged\x1b[31m\u202e"
    problem = Problem("r", Severity.NOTICE, evil, evil, (evil,), evil, evil, (evil,), evil, evil)
    builder = MatrixBuilder([User(evil)])
    builder.add(Mailbox(evil), {0: Cell.of("lr", "", "a")}, notes={0: evil})
    model = ReportModel(evil, MADE, problems=(problem,), matrix=builder.build(), notes=(evil,))
    lines = [*report_lines(model), *matrix_lines(model.matrix)]
    assert not any(line.lstrip().startswith("[critical]") for line in lines)
    assert not any(char in "\n\x1b\u202e" for line in lines for char in line)
