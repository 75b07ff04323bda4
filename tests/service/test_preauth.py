"""What may be said before login, and what follows from it."""

import base64

import pytest

from imap.service.preauth import (
    MAX_BAD,
    MAX_COMMANDS,
    Action,
    Attempt,
    Close,
    Policy,
    PreAuth,
    ReadResponse,
    Refused,
    Say,
    StartTls,
)
from imap.wire import Command


def door(*, tls: bool = False, starttls: bool = True, cleartext: bool = True) -> PreAuth:
    return PreAuth(Policy(starttls=starttls, cleartext=cleartext), tls=tls)


def plain(authzid: bytes, user: bytes, password: bytes) -> bytes:
    return base64.b64encode(b"\0".join((authzid, user, password)))


def say(action: Action) -> bytes:
    assert isinstance(action, Say)
    return action.octets


@pytest.mark.parametrize(
    ("tls", "starttls", "cleartext", "want"),
    [
        (False, True, True, "STARTTLS AUTH=PLAIN"),
        (False, True, False, "STARTTLS LOGINDISABLED"),
        (False, False, False, "LOGINDISABLED"),
        (False, False, True, "AUTH=PLAIN"),
        (True, True, False, "AUTH=PLAIN"),
        (True, True, True, "AUTH=PLAIN"),
    ],
)
def test_capabilities(tls: bool, starttls: bool, cleartext: bool, want: str) -> None:
    at = door(tls=tls, starttls=starttls, cleartext=cleartext)
    assert at.capabilities() == f"IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE {want}"
    assert at.greeting().startswith(b"* OK [CAPABILITY IMAP4rev1 ")
    assert at.capabilities().encode() in say(at.command(Command("a", "CAPABILITY")))


@pytest.mark.parametrize(
    ("command", "want"),
    [
        pytest.param(Command("a", "LOGIN", b"bob secret"), ("bob", "secret", ""), id="atoms"),
        pytest.param(
            Command("a", "LOGIN", b'"b o b" "s\\"e\\\\t"'), ("b o b", 's"e\\t', ""), id="quoted"
        ),
        pytest.param(
            Command("a", "LOGIN", b"{3}\r\nbob {2}\r\n{}"), ("bob", "{}", ""), id="literals"
        ),
        pytest.param(
            Command("a", "LOGIN", '"bøb" "pæss"'.encode()), ("bøb", "pæss", ""), id="utf-8"
        ),
        pytest.param(
            Command("a", "LOGIN", b"bob*admin secret"), ("bob*admin", "secret", ""), id="master"
        ),
        pytest.param(
            Command("a", "AUTHENTICATE", b"PLAIN " + plain(b"", b"bob", b"s p")),
            ("bob", "s p", ""),
            id="initial-response",
        ),
        pytest.param(
            Command("a", "AUTHENTICATE", b"plain " + plain(b"bob", b"admin", b"x")),
            ("admin", "x", "bob"),
            id="authzid",
        ),
        pytest.param(
            Command("a", "AUTHENTICATE", b"PLAIN " + plain(b"bob", b"bob", b"x")),
            ("bob", "x", ""),
            id="authzid-is-the-user",
        ),
    ],
)
def test_attempts(command: Command, want: tuple[str, str, str]) -> None:
    action = door().command(command)
    assert isinstance(action, Attempt)
    assert (action.user, action.password, action.authzid) == want
    assert "secret" not in repr(action)


def test_sasl_continuation_and_its_end() -> None:
    at = door()
    assert at.command(Command("a", "AUTHENTICATE", b"PLAIN")) == ReadResponse(b"+ \r\n")
    action = at.response(plain(b"", b"bob", b"pw"))
    assert isinstance(action, Attempt)
    assert action.tag == "a"
    at.command(Command("b", "AUTHENTICATE", b"PLAIN"))
    assert say(at.response(b"*")).startswith(b"b BAD")
    at.command(Command("c", "AUTHENTICATE", b"PLAIN"))
    assert say(at.response(b"!!")).startswith(b"c BAD")
    at.command(Command("d", "AUTHENTICATE", b"PLAIN"))
    assert isinstance(at.response(base64.b64encode(b"no NULs")), Refused)


@pytest.mark.parametrize(
    "command",
    [
        Command("a", "LOGIN", b"bob secret"),
        Command("a", "AUTHENTICATE", b"PLAIN"),
        Command("a", "AUTHENTICATE", b"PLAIN " + plain(b"", b"bob", b"secret")),
    ],
)
def test_passwords_are_not_welcome_in_the_clear(command: Command) -> None:
    octets = say(door(cleartext=False).command(command))
    assert b"a NO [PRIVACYREQUIRED]" in octets
    assert isinstance(door(cleartext=False, tls=True).command(command), Attempt | ReadResponse)


def test_starttls() -> None:
    assert isinstance(door().command(Command("a", "STARTTLS")), StartTls)
    assert say(door(tls=True).command(Command("a", "STARTTLS"))).startswith(b"a BAD")
    assert say(door(starttls=False).command(Command("a", "STARTTLS"))).startswith(b"a BAD")


@pytest.mark.parametrize(
    "arguments",
    [b'"\xff\xfe" secret', b"bob {1}\r\n\xff", b'"" secret'],
    ids=["user-not-utf8", "password-not-utf8", "empty-user"],
)
def test_what_no_database_need_see(arguments: bytes) -> None:
    assert isinstance(door().command(Command("a", "LOGIN", arguments)), Refused)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SELECT", b"INBOX"), ("LOGIN", b""), ("LOGIN", b"bob"), ("LOGIN", b'"bob'),
        ("NOOP", b"x"), ("ID", b"(one)"), ("ID", b'("a" "b" "c")'), ("XYZZY", b""),
        ("STARTTLS", b"now"),
    ],
)  # fmt: skip
def test_bad_commands_are_tagged_bad(name: str, arguments: bytes) -> None:
    assert say(door().command(Command("t7", name, arguments))).startswith(b"t7 BAD ")


def test_id_is_answered() -> None:
    for arguments in (b"NIL", b"()", b'("name" "x" "version" NIL)'):
        octets = say(door().command(Command("a", "ID", arguments)))
        assert octets.startswith(b"* ID (")
        assert octets.endswith(b"a OK ID completed.\r\n")


def test_unsupported_mechanism_is_no() -> None:
    assert say(door().command(Command("a", "AUTHENTICATE", b"GSSAPI"))).startswith(b"a NO")


def test_too_many_bad_commands_end_it() -> None:
    at = door()
    actions = [at.command(Command("a", "XYZZY")) for _ in range(MAX_BAD)]
    assert all(isinstance(action, Say) for action in actions[:-1])
    assert isinstance(actions[-1], Close)
    assert b"* BYE" in actions[-1].octets


def test_too_many_commands_end_it() -> None:
    at = door()
    actions = [at.command(Command("a", "NOOP")) for _ in range(MAX_COMMANDS + 1)]
    assert [isinstance(action, Close) for action in actions] == [False] * MAX_COMMANDS + [True]


def test_failures_are_bland_slower_each_time_and_few() -> None:
    at = PreAuth(
        Policy(cleartext=True, failure_delay=2, longest_delay=5, max_failures=4), tls=False
    )
    delays, answers = [], []
    for _ in range(4):
        delays.append(at.delay())
        answers.append(at.failed("a"))
    assert delays == [2, 4, 5, 5]
    want = b"a NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"
    assert [say(answer) for answer in answers[:3]] == [want] * 3
    assert isinstance(answers[3], Close)
    assert answers[3].octets.startswith(want)
    assert b"* BYE" in answers[3].octets


def test_logout_says_bye_first() -> None:
    action = door().command(Command("a", "LOGOUT"))
    assert isinstance(action, Close)
    assert action.octets.startswith(b"* BYE")
    assert b"a OK" in action.octets
