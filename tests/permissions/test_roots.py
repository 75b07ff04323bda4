"""Missing mail roots: which template is which case, and what each directory gets."""

import stat

import pytest

from sharefs.permissions.inherit import DEFAULTS, Facts, GidReason
from sharefs.permissions.roots import RootCase, classify_root, plan_root

MAIL = 6000
US = 5001

TEMPLATES = [  # template, expanded -> case, prefix
    (
        "/var/vmail/%{user | domain}/%{user | username}/Maildir",
        "/var/vmail/example.com/bob/Maildir",
        RootCase.TEMPLATE, "/var/vmail/example.com",
    ),
    ("/var/vmail/%d/%n/Maildir", "/var/vmail/ex.org/bob/Maildir",
     RootCase.TEMPLATE, "/var/vmail/ex.org"),
    ("/var/vmail/%d/%1n/%n", "/var/vmail/ex.org/b/bob", RootCase.TEMPLATE, "/var/vmail/ex.org/b"),
    ("/var/vmail/%u", "/var/vmail/bob", RootCase.TEMPLATE, "/var/vmail"),
    ("/srv/%{user}-mail/x", "/srv/bob-mail/x", RootCase.TEMPLATE, "/srv"),
    ("/srv/%{user | substr(0, 1)}/%{user}", "/srv/b/bob", RootCase.TEMPLATE, "/srv/b"),
    ('/srv/%{user | replace("/", ".")}/m', "/srv/a.b/m", RootCase.TEMPLATE, "/srv"),
    ("~/Maildir", "/home/bob/Maildir", RootCase.HOME, "/home/bob/Maildir"),
    ("~", "/home/bob", RootCase.HOME, "/home/bob"),
    ("%{home}/Maildir", "/home/bob/Maildir", RootCase.HOME, "/home/bob/Maildir"),
    ("%h/Maildir", "/home/bob/Maildir", RootCase.HOME, "/home/bob/Maildir"),
    ("~/%{user}", "/home/bob/bob", RootCase.NOTHING, ""),
    ("%{home}/%{user}", "/home/x/bob/bob", RootCase.NOTHING, ""),
    ("/var/mail/public", "/var/mail/public", RootCase.NOTHING, ""),
    ("/var/vmail/%u/Maildir", "/var/vmail/a/b/Maildir", RootCase.NOTHING, ""),
    ("/%u", "/bob", RootCase.NOTHING, ""),
]  # fmt: skip


@pytest.mark.parametrize(("template", "expanded", "case", "prefix"), TEMPLATES)
def test_classify(template: str, expanded: str, case: RootCase, prefix: str) -> None:
    got = classify_root(template, expanded)
    assert (got.case, got.prefix) == (case, prefix)
    assert got.reason


MISSING = ("/var/vmail/ex.org", "/var/vmail/ex.org/bob", "/var/vmail/ex.org/bob/Maildir")

PLANS = [  # id, template, ancestor mode -> (mode, gid) of each missing directory
    ("template-02770", "/var/vmail/%d/%n/Maildir", 0o2770,
     [(0o2770, None), (0o2700, US), (0o2700, US)]),
    ("template-03770", "/var/vmail/%d/%n/Maildir", 0o3770,
     [(0o3770, None), (0o2700, US), (0o2700, US)]),
    ("template-02775", "/var/vmail/%d/%n/Maildir", 0o2775,
     [(0o2775, None), (0o2700, US), (0o2700, US)]),
    ("template-without-setgid", "/var/vmail/%d/%n/Maildir", 0o770,
     [(0o700, None), (0o700, None), (0o700, None)]),
    ("home-02770", "~/Maildir", 0o2770, [(0o2770, None)] * 3),
    ("home-without-setgid", "~/Maildir", 0o770, [(0o700, None)] * 3),
    ("no-variable", "/var/vmail/ex.org/bob/Maildir", 0o2770, [(0o700, None)] * 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "mode", "want"), [row[1:] for row in PLANS], ids=[row[0] for row in PLANS]
)
def test_plan(template: str, mode: int, want: list[tuple[int, int | None]]) -> None:
    ancestor = Facts(stat.S_IFDIR | mode, 0, MAIL, "/var/vmail")
    got = plan_root(classify_root(template, MISSING[-1]), ancestor, MISSING, DEFAULTS, egid=US)
    assert [step.path for step in got.steps] == list(MISSING)
    assert [(step.creation.dir_mode, step.creation.gid) for step in got.steps] == want
    assert got.reason


def test_the_user_directory_says_why_it_has_that_group() -> None:
    ancestor = Facts(stat.S_IFDIR | 0o2770, 0, MAIL, "/var/vmail")
    template = classify_root("/var/vmail/%d/%n/Maildir", MISSING[-1])
    got = plan_root(template, ancestor, MISSING, DEFAULTS, egid=US)
    assert (got.creation.reason, got.creation.origin) == (GidReason.EGID, "egid")


def test_an_existing_domain_directory_is_not_made_again() -> None:
    ancestor = Facts(stat.S_IFDIR | 0o2770, 0, MAIL, "/var/vmail/ex.org")
    template = classify_root("/var/vmail/%d/%n/Maildir", MISSING[-1])
    got = plan_root(template, ancestor, MISSING[1:], DEFAULTS, egid=US)
    assert [(step.creation.dir_mode, step.creation.gid) for step in got.steps] == [
        (0o2700, US), (0o2700, US),
    ]  # fmt: skip
