"""The creation rules as tables: no file system needed."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.permissions.inherit import (
    DEFAULTS,
    Creation,
    Facts,
    GidReason,
    link_decision,
    of_dictionary,
    rename_decision,
)

US, TEAM, ALICE, BOB = 5001, 6000, 5001, 5002


def directory(mode: int, gid: int = TEAM, uid: int = ALICE, path: str = "/mail") -> Facts:
    return Facts(stat.S_IFDIR | mode, uid, gid, path)


def mbox(mode: int, gid: int = TEAM) -> Facts:
    return Facts(stat.S_IFREG | mode, ALICE, gid, "/mail/box")


DIRECTORIES = [  # id, mode, gid -> file mode, directory mode, gid, reason
    ("private", 0o0700, TEAM, 0o600, 0o700, None, GidReason.GROUP_IS_OTHER),
    ("group-shared", 0o0770, TEAM, 0o660, 0o770, TEAM, GidReason.COPIED),
    ("setgid-wins", 0o2770, TEAM, 0o660, 0o770, None, GidReason.SETGID),
    ("own-group", 0o0750, US, 0o640, 0o750, None, GidReason.ALREADY_OURS),
    ("seed-0715", 0o0715, TEAM, 0o604, 0o715, TEAM, GidReason.COPIED),
    ("world", 0o0777, TEAM, 0o666, 0o777, None, GidReason.GROUP_IS_OTHER),
    ("readable", 0o0755, TEAM, 0o644, 0o755, None, GidReason.GROUP_IS_OTHER),
    ("sticky-is-not-copied", 0o3770, TEAM, 0o660, 0o770, None, GidReason.SETGID),
    ("owner-can-always-work", 0o0070, TEAM, 0o660, 0o770, TEAM, GidReason.COPIED),
    ("setgid-of-our-own-group", 0o2750, US, 0o640, 0o750, None, GidReason.SETGID),
]


@pytest.mark.parametrize(
    ("mode", "gid", "file_mode", "dir_mode", "chosen", "reason"),
    [row[1:] for row in DIRECTORIES],
    ids=[row[0] for row in DIRECTORIES],
)
def test_directory(
    mode: int, gid: int, file_mode: int, dir_mode: int, chosen: int | None, reason: GidReason
) -> None:
    got = Creation.of_directory(directory(mode, gid), egid=US)
    assert (got.file_mode, got.dir_mode, got.gid, got.reason) == (
        file_mode, dir_mode, chosen, reason,
    )  # fmt: skip
    assert got.origin == "/mail"
    assert (got.owner_uid, got.owner_gid) == (ALICE, gid)


FILES = [  # id, mode, gid, setgid parent -> file mode, directory mode, gid, reason
    ("private", 0o600, TEAM, False, 0o600, 0o700, None, GidReason.GROUP_IS_OTHER),
    ("group-reads", 0o640, TEAM, False, 0o640, 0o750, TEAM, GidReason.COPIED),
    ("group-writes-only", 0o620, TEAM, False, 0o620, 0o730, TEAM, GidReason.COPIED),
    ("others-read", 0o604, TEAM, False, 0o604, 0o705, TEAM, GidReason.COPIED),
    ("setgid-parent", 0o660, TEAM, True, 0o660, 0o770, None, GidReason.SETGID),
    ("execute-never-counts", 0o711, TEAM, False, 0o600, 0o700, None, GidReason.GROUP_IS_OTHER),
]


@pytest.mark.parametrize(
    ("mode", "gid", "setgid", "file_mode", "dir_mode", "chosen", "reason"),
    [row[1:] for row in FILES],
    ids=[row[0] for row in FILES],
)
def test_mbox_file(
    mode: int,
    gid: int,
    setgid: bool,
    file_mode: int,
    dir_mode: int,
    chosen: int | None,
    reason: GidReason,
) -> None:
    parent = directory(0o2770 if setgid else 0o770, gid)
    got = Creation.of_file(mbox(mode, gid), parent=parent, egid=US)
    assert (got.file_mode, got.dir_mode, got.gid) == (file_mode, dir_mode, chosen)
    assert got.reason is reason
    assert got.group == (TEAM if chosen == TEAM or setgid else None)


def test_defaults_are_private() -> None:
    assert (DEFAULTS.file_mode, DEFAULTS.dir_mode, DEFAULTS.gid) == (0o600, 0o700, None)


@given(st.integers(0, 0o7777), st.sampled_from([US, TEAM]))
def test_laws(mode: int, gid: int) -> None:
    got = Creation.of_directory(directory(mode, gid), egid=US)
    assert got.file_mode & 0o111 == 0  # execute bits never reach files
    assert got.dir_mode & 0o7000 == 0  # special bits come from the kernel alone
    assert got.file_mode & 0o600 == 0o600
    assert got.dir_mode & 0o700 == 0o700
    assert got.gid is None or not mode & stat.S_ISGID
    # Nobody is let in whom the directory keeps out.
    assert got.file_mode & 0o077 & ~mode == 0
    assert got.dir_mode & 0o077 & ~mode == 0


DICTIONARIES = [  # id, directory mode, existing file -> file mode, gid
    ("setgid", 0o2770, None, 0o660, TEAM),
    ("group", 0o0770, None, 0o660, TEAM),
    ("group-says-nothing-more", 0o0755, None, 0o644, None),
    ("private", 0o0700, None, 0o600, None),
    ("existing-is-kept", 0o2770, (0o640, US), 0o640, US),
    ("admin-opened-it", 0o0700, (0o666, TEAM), 0o666, TEAM),
]


@pytest.mark.parametrize(
    ("mode", "existing", "file_mode", "gid"),
    [row[1:] for row in DICTIONARIES],
    ids=[row[0] for row in DICTIONARIES],
)
def test_dictionary(
    mode: int, existing: tuple[int, int] | None, file_mode: int, gid: int | None
) -> None:
    old = None
    if existing is not None:
        old = Facts(stat.S_IFREG | existing[0], BOB, existing[1], "/db/shares")
    got = of_dictionary(directory(mode), old)
    assert (got.file_mode, got.gid) == (file_mode, gid)


LINKS = [  # id, source, destination -> link
    ("same", (0o777, TEAM, ALICE), (0o777, TEAM, ALICE), True),
    ("modes-differ", (0o777, TEAM, ALICE), (0o715, TEAM, ALICE), False),
    ("only-execute-differs", (0o711, TEAM, ALICE), (0o700, TEAM, ALICE), True),
    ("owners-differ-readable", (0o755, TEAM, ALICE), (0o755, TEAM, BOB), False),
    ("owners-differ-group-writes", (0o770, TEAM, ALICE), (0o770, TEAM, BOB), True),
    ("owners-differ-others-write", (0o777, TEAM, ALICE), (0o777, TEAM, BOB), True),
    ("groups-differ", (0o770, TEAM, ALICE), (0o770, TEAM + 1, ALICE), False),
    ("groups-without-meaning", (0o755, TEAM, ALICE), (0o755, TEAM + 1, ALICE), True),
    ("setgid-same-group", (0o2770, TEAM, ALICE), (0o2770, TEAM, ALICE), True),
    ("setgid-other-group", (0o2770, TEAM, ALICE), (0o2770, TEAM + 1, ALICE), False),
    ("setgid-against-copied", (0o2770, TEAM, ALICE), (0o770, TEAM, ALICE), False),
    ("setgid-against-own", (0o2750, US, ALICE), (0o750, US, ALICE), True),
]


@pytest.mark.parametrize(
    ("source", "dest", "want"), [row[1:] for row in LINKS], ids=[row[0] for row in LINKS]
)
def test_link_or_copy(source: tuple[int, int, int], dest: tuple[int, int, int], want: bool) -> None:
    one, other = (
        Creation.of_directory(directory(mode, gid, uid), egid=US)
        for mode, gid, uid in (source, dest)
    )
    got = link_decision(one, other)
    assert got.link is want
    assert bool(link_decision(other, one)) is want  # never depends on the direction
    assert got.reason


RENAMES = [  # id, mailbox, new place, below another -> allowed
    ("same", (0o770, TEAM), (0o770, TEAM), True, True),
    ("file-mode", (0o770, TEAM), (0o750, TEAM), True, False),
    ("directory-mode-only", (0o711, TEAM), (0o700, TEAM), True, False),
    ("group", (0o770, TEAM), (0o770, TEAM + 1), True, False),
    ("top-level-is-not-checked", (0o770, TEAM), (0o700, TEAM), False, True),
]


@pytest.mark.parametrize(
    ("mailbox", "place", "below", "want"), [row[1:] for row in RENAMES], ids=[r[0] for r in RENAMES]
)
def test_rename(mailbox: tuple[int, int], place: tuple[int, int], below: bool, want: bool) -> None:
    one, other = (
        Creation.of_directory(directory(mode, gid), egid=US) for mode, gid in (mailbox, place)
    )
    got = rename_decision(one, other, below_another=below)
    assert got.allowed is want
    if not want:
        assert "differ" in got.reason
