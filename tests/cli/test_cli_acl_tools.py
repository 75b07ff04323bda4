"""acl apply, lint, fmt, export and import."""

import os
from pathlib import Path

import pytest

from tests.account.world import UIDS, World
from tests.cli.command import Shell

pytestmark = pytest.mark.superuser


@pytest.fixture(autouse=True)
def work(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u alice Work Work/Sub Work/Sub/Deep Workshop")


def acl_file(host: World, name: str = ".Work") -> Path:
    return host.maildir("alice", name, "dovecot-acl")


def put(host: World, octets: bytes, name: str = ".Work") -> Path:
    path = acl_file(host, name)
    path.write_bytes(octets)
    os.chown(path, UIDS["alice"], -1)
    path.chmod(0o660)
    return path


# --- apply -----------------------------------------------------------------------------------


def test_bringing_an_acl_down(shell: Shell, host: World) -> None:
    shell.ok("acl set -u alice Work user=bob lookup read")
    shell.ok("acl set -u alice Work/Sub user=carol lookup")
    dry = shell.ok("acl apply -u alice --recursive Work")
    assert dry.lines == [
        "Work/Sub: - user=carol l", "Work/Sub: + user=bob lr", "Work/Sub/Deep: + user=bob lr",
    ]  # fmt: skip
    assert acl_file(host, ".Work.Sub").read_text() == "user=carol l\n"
    shell.ok("acl apply -u alice Work --yes")
    assert acl_file(host, ".Work.Sub").read_text() == "user=bob lr\n"
    assert not acl_file(host, ".Work.Sub.Deep").exists()
    shell.ok("acl apply -u alice --recursive --yes Work")
    assert acl_file(host, ".Work.Sub.Deep").read_text() == "user=bob lr\n"
    assert not acl_file(host, ".Workshop").exists()
    assert shell.ok("mailbox list -u bob shared/*").lines == [
        "shared/alice/Work", "shared/alice/Work/Sub", "shared/alice/Work/Sub/Deep",
    ]  # fmt: skip
    assert shell.ok("acl apply -u alice --recursive Work").out == ""


# --- lint and fmt ----------------------------------------------------------------------------


def test_lint(shell: Shell, host: World) -> None:
    path = put(host, b"user=bob lrZ\n")
    other = put(host, b"user=bob\tlr\nuser=ghost l\nanyone l\n", ".Workshop")
    done = shell.run("acl lint -u alice --json")
    assert done.status == 1
    got = [(one["mailbox"], one["place"], one["severity"]) for one in done.records]
    assert got == [
        ("Work", f"{path}:1:12", "error"),
        ("Workshop", f"{other}:1:9", "warning"),
        ("Workshop", f"{other}:3", "note"),
        ("Workshop", f"{other}:2", "warning"),
    ]
    assert shell.run("acl lint -A").lines[0].startswith("Username")
    put(host, b"anyone l\n")
    assert shell.run("acl lint -u alice Work").status == 0
    assert shell.run("acl lint -u alice Nope").status == os.EX_NOUSER


def test_lint_of_what_is_no_file(shell: Shell, host: World) -> None:
    acl_file(host).mkdir()
    done = shell.run("acl lint -u alice --json Work")
    assert (done.status, done.records[0]["severity"]) == (1, "error")
    assert shell.run("acl fmt -u alice --yes Work").status == 0


def test_fmt(shell: Shell, host: World) -> None:
    before = b"# by hand\nuser=bob\tlr\nanyone  l\n"
    path = put(host, before)
    dry = shell.ok("acl fmt -u alice Work")
    assert "+user=bob lr" in dry.lines
    assert path.read_bytes() == before
    shell.ok("acl fmt -u alice --yes")
    assert path.read_bytes() == b"anyone l\nuser=bob lr\n"
    assert path.stat().st_uid == UIDS["alice"]
    assert shell.ok("mailbox list -u bob shared/*").lines == ["shared/alice/Work"]
    assert shell.ok("acl fmt -u alice --yes").out == ""


def test_fmt_leaves_alone_what_it_cannot_mend(shell: Shell, host: World) -> None:
    path = put(host, b"user=bob\tlr\nnonsense\n")
    done = shell.run("acl fmt -u alice --yes")
    assert done.status == 1
    assert f"{path}:2:1" in done.err
    assert path.read_bytes() == b"user=bob\tlr\nnonsense\n"


# --- export and import -----------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["dovecot", "cyrus", "courier"])
def test_there_and_back(shell: Shell, host: World, tmp_path: Path, dialect: str) -> None:
    shell.ok("acl set -u alice Work user=bob lookup read -insert")
    shell.ok("acl set -u alice Work anyone lookup")
    shell.ok("acl set -u alice Work/Sub user=carol lookup")
    wanted = shell.ok("acl rights -u bob shared/alice/Work").out
    out = shell.ok(f"acl export -u alice --format {dialect}")
    assert out.lines[0] == "# mailbox Work"
    file = tmp_path / "acls"
    file.write_text(out.out)
    shell.ok("acl set -u alice Work user=bob all")
    shell.ok("acl delete -u alice Work/Sub user=carol")
    dry = shell.ok(f"acl import -u alice --format {dialect} {file}")
    assert "Work/Sub: + user=carol l" in dry.lines
    assert b"carol" not in acl_file(host, ".Work.Sub").read_bytes()
    shell.ok(f"acl import -u alice --format {dialect} --yes {file}")
    assert shell.ok("acl rights -u bob shared/alice/Work").out == wanted
    assert acl_file(host, ".Work.Sub").read_text() == "user=carol l\n"
    assert acl_file(host).stat().st_uid == UIDS["alice"]
    assert shell.ok(f"acl import -u alice --format {dialect} {file}").out == ""


def test_an_identifier_with_a_space(shell: Shell, host: World, tmp_path: Path) -> None:
    put(host, b'"group=the \\"ops\\"" lr :x\n')
    file = tmp_path / "acls"
    file.write_text(shell.ok("acl export -u alice").out)
    put(host, b"")
    shell.ok(f"acl import -u alice --yes {file}")
    assert acl_file(host).read_bytes() == b'"group=the \\"ops\\"" lr :x\n'


def test_losses_are_told(shell: Shell, host: World) -> None:
    shell.ok("acl set -u alice Work user=bob lookup post")
    done = shell.run("acl export -u alice --format courier")
    assert done.status == 1
    assert "Work: user=bob: there is no right p there" in done.err


def test_bad_imports(shell: Shell, host: World, tmp_path: Path) -> None:
    file = tmp_path / "acls"
    for text, word in (
        ("anyone l\n", f"{file}:1: "),
        ("# mailbox Work\nanyone l\n\nanyone ?\n", f"{file}:4: "),
        ("# mailbox Work\n# mailbox Workshop\nnonsense\n", f"{file}:3: "),
    ):
        file.write_text(text)
        done = shell.run(f"acl import -u alice --format courier --yes {file}")
        assert (done.status, word in done.err) == (os.EX_DATAERR, True), done
        assert not acl_file(host).exists()
    file.write_text("# mailbox Nope\nanyone l\n# mailbox Work\nanyone l\n")
    done = shell.run(f"acl import -u alice --yes {file}")
    assert done.status == 1
    assert "Nope" in done.err
    assert acl_file(host).read_text() == "anyone l\n"


def test_an_import_leaves_alone_what_names_nobody(
    shell: Shell, host: World, tmp_path: Path
) -> None:
    file = tmp_path / "acls"
    file.write_text("# mailbox Work\nuser=zoe lr\n# mailbox Work/Sub\nuser=bob lr\n")
    done = shell.run(f"acl import -u alice --yes {file}")
    assert done.status == 1
    assert "Work: no user database knows zoe" in done.err
    assert not acl_file(host).exists()
    assert acl_file(host, ".Work.Sub").read_text() == "user=bob lr\n"
    shell.ok(f"acl import -u alice --yes --allow-unknown {file}")
    assert acl_file(host).read_text() == "user=zoe lr\n"
