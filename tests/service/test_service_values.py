"""Small rules of the service: who counts as secured, when to start again, log lines."""

import logging
import os
from pathlib import Path

import pytest

from imap.service.log_writer import LogPipe, LogWriter
from imap.service.logs import LineFormatter, clean, fields, on_behalf_of
from imap.service.settings import LoginSettings
from imap.service.supervision import LONG_LIFE, LONGEST_DELAY, Backoff
from imap.service.tls import TlsFiles


@pytest.mark.parametrize(
    ("remote", "local", "want"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("::1", "::1", True),
        ("192.0.2.9", "192.0.2.9", True),  # the host talks to itself
        ("192.0.2.9", "192.0.2.1", False),
        ("10.1.2.3", "10.0.0.1", True),  # trusted below
        ("2001:db8::7", "2001:db8::1", True),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("", "127.0.0.1", False),
    ],
)
def test_who_is_secured_without_tls(remote: str, local: str, want: bool) -> None:
    settings = LoginSettings(trusted_networks=("10.0.0.0/8", "2001:db8::/32"))
    assert settings.secured(remote, local) is want


@pytest.mark.parametrize(
    ("allow", "require", "want"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
def test_cleartext_from_afar(allow: bool, require: bool, want: bool) -> None:
    settings = LoginSettings(allow_cleartext=allow, require_tls=require)
    assert settings.cleartext("192.0.2.9", "192.0.2.1") is want
    assert settings.cleartext("127.0.0.1", "127.0.0.1")


def test_login_settings_survive_their_way() -> None:
    settings = LoginSettings(tls=TlsFiles("/cert", "/key"), trusted_networks=("::1/128",), uid=5)
    assert LoginSettings.decode(settings.encode()) == settings
    assert LoginSettings.decode(LoginSettings().encode()) == LoginSettings()


def test_backoff_doubles_up_to_a_limit_and_forgets() -> None:
    backoff, delays = Backoff(), []
    for _ in range(12):
        backoff = backoff.after_death(lived=1)
        delays.append(backoff.delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == LONGEST_DELAY
    assert backoff.after_death(lived=LONG_LIFE).delay == 0.1


def test_fields_are_dovecots() -> None:
    got = fields(user="bob", method="PLAIN", rip="::1", mpid=None, TLS=True, session="a/b")
    assert got == "user=<bob>, method=PLAIN, rip=::1, TLS, session=<a/b>"
    assert fields(user="", TLS=False) == "user=<>"


def test_nothing_in_a_field_can_end_a_line() -> None:
    hostile = "x>\r\nimap-login: Info: Login: user=<root\x1b[2J\u2028\ud800"
    assert clean(hostile).isprintable()
    assert "\n" not in fields(user=hostile)
    got = fields(user="x>, rip=192.0.2.66, session=<", rip="192.0.2.1")
    assert got == r"user=<x\x3e, rip=192.0.2.66, session=\x3c>, rip=192.0.2.1", "no IP to be banned"


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.WARNING, "f", 1, text, args, None)


def test_lines_say_for_whom() -> None:
    formatter = LineFormatter("imap(bob)")
    assert formatter.format(record("hello %s", "you")) == "<4>imap(bob): Warning: hello you"
    token = on_behalf_of.set("imap(bob)<7><s>")
    try:
        assert (
            formatter.format(record("two\nlines")) == "<4>imap(bob)<7><s>: Warning: two\\x0alines"
        )
    finally:
        on_behalf_of.reset(token)


def test_a_childs_lines_are_stamped_and_cannot_be_anothers(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path))
    out, into = os.pipe()
    pipe = LogPipe(out, "imap-login", writer)
    os.write(into, b"<6>imap-login: Info: fine\n<6>auth: Info: forged\nTraceback\n")
    assert pipe.read()
    os.write(into, b"<3>imap-login: Error: \x1b[1m\xff, with")
    os.write(into, b" a second half\nno newline")
    os.close(into)
    assert not pipe.read()
    assert not pipe.open
    writer.close()
    lines = [line[len("Jan 01 00:00:00 ") :] for line in path.read_text().splitlines()]
    assert lines == [
        "imap-login: Info: fine",
        "imap-login: Error: auth: Info: forged",
        "imap-login: Error: Traceback",
        r"imap-login: Error: \x1b[1m\xff, with a second half",
        "imap-login: Error: no newline",
    ]


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path))
    out, into = os.pipe()
    pipe = LogPipe(out, "", writer)
    for _ in range(5):
        os.write(into, b"x" * 4000)
        assert pipe.read()
    os.close(into)
    pipe.read()
    writer.close()
    assert max(map(len, path.read_text().splitlines())) < 8300


def test_info_goes_its_own_way(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "errors"), str(tmp_path / "info"))
    writer.write(3, "bad")
    writer.write(6, "good")
    (tmp_path / "info").rename(tmp_path / "info.1")
    writer.reopen()
    writer.write(6, "after rotation")
    writer.close()
    assert (tmp_path / "errors").read_text().endswith(" bad\n")
    assert (tmp_path / "info.1").read_text().endswith(" good\n")
    assert (tmp_path / "info").read_text().endswith(" after rotation\n")
