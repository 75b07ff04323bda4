"""Templates: both forms of variables, filters, and the owner's against the viewer's."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.config import BadTemplate, Form, Template, Variables, load
from sharefs.errors import Code, SharingError

BOB = Variables(user="Bob@Example.COM", home="/home/bob", uid=1001, gid=1002, remote_ip="10.0.0.9")
ALICE = Variables(user="alice@x.org", home="/home/alice")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


EXPANSIONS: dict[str, tuple[str, Form, str]] = {
    "user": ("%{user}", Form.V24, "Bob@Example.COM"),
    "username filter": ("%{user | username}", Form.V24, "Bob"),
    "domain filter": ("%{user|domain}", Form.V24, "Example.COM"),
    "pipe": ("%{user | domain | lower}", Form.V24, "example.com"),
    "upper": ("%{user | username | upper}", Form.V24, "BOB"),
    "default unused": ("%{user | default('x')}", Form.V24, "Bob@Example.COM"),
    "default used": ("%{master_user | default('none')}", Form.V24, "none"),
    "substr": ("%{user | substr(0, 2)}", Form.V24, "Bo"),
    "substr from the end": ("%{user | substr(-3)}", Form.V24, "COM"),
    "substr to before the end": ("%{user | substr(0, -4)}", Form.V24, "Bob@Example"),
    "md5": ("%{user | md5}", Form.V24, md5("Bob@Example.COM")),
    "md5 hexlify": ("%{user | md5 | hexlify}", Form.V24, md5("Bob@Example.COM")),
    "hash": ("%{user | hash('sha256')}", Form.V24, hashlib.sha256(b"Bob@Example.COM").hexdigest()),
    "md5 substr": ("%{user | md5 | hex | substr(0, 2)}", Form.V24, md5("Bob@Example.COM")[:2]),
    "regexp": (r"%{user | regexp('@.*', '')}", Form.V24, "Bob"),
    "brace in quotes": ("%{master_user | default('}')}", Form.V24, "}"),
    "pipe in quotes": ("%{master_user | default('a|b')}", Form.V24, "a|b"),
    "if": ("%{user | domain | if('==', 'Example.COM', 'ours', 'theirs')}", Form.V24, "ours"),
    "percent and letter": ("100%%u", Form.V24, "100%u"),
    "percent": ("100%%", Form.V24, "100%"),
    "ids": ("%{uid}.%{gid}", Form.V24, "1001.1002"),
    "several": ("/v/%{user | domain}/%{user | username}/M", Form.V24, "/v/Example.COM/Bob/M"),
    "old user": ("%u", Form.V23, "Bob@Example.COM"),
    "old parts": ("/v/%d/%n", Form.V23, "/v/Example.COM/Bob"),
    "old lower": ("%Lu", Form.V23, "bob@example.com"),
    "old upper": ("%Un", Form.V23, "BOB"),
    "old md5": ("%Mu", Form.V23, md5("Bob@Example.COM")),
    "old width": ("%1n", Form.V23, "B"),
    "old offset and width": ("%1.2n", Form.V23, "ob"),
    "old lowered letter": ("/v/%1Ln/%n", Form.V23, "/v/b/Bob"),
    "old home": ("%h/Maildir", Form.V23, "/home/bob/Maildir"),
    "old long": ("%{user}/%{rip}", Form.V23, "Bob@Example.COM/10.0.0.9"),
    "old percent": ("100%%", Form.V23, "100%"),
    "old followed by text": ("%nx", Form.V23, "Bobx"),
}


@pytest.mark.parametrize(("text", "form", "want"), EXPANSIONS.values(), ids=EXPANSIONS)
def test_expansion(text: str, form: Form, want: str) -> None:
    assert Template.parse(text, form).expand(BOB) == want


@pytest.mark.parametrize(("text", "form", "want"), EXPANSIONS.values(), ids=EXPANSIONS)
def test_the_2_4_spelling_means_the_same(text: str, form: Form, want: str) -> None:
    again = Template.parse(Template.parse(text, form).written(), Form.V24)
    assert again.expand(BOB) == want


BAD = {
    "old form": ("%u", Form.V24, "%{user}"),
    "unclosed": ("%{user", Form.V24, "%{user}"),
    "unknown": ("%{usre}", Form.V24, "docs/"),
    "unknown filter": ("%{user | lwoer}", Form.V24, "lower"),
    "argument missing": ("%{user | substr}", Form.V24, "has 0"),
    "argument too many": ("%{user | lower('x')}", Form.V24, "has 1"),
    "no filter": ("%{user | }", Form.V24, "lower"),
    "unknown letter": ("%q", Form.V23, "%%"),
    "lone": ("50%", Form.V23, "%%"),
    "modifier": ("%Hu", Form.V23, "md5"),
}


@pytest.mark.parametrize(("text", "form", "remedy"), BAD.values(), ids=BAD)
def test_bad_templates_say_what_to_write(text: str, form: Form, remedy: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        Template.parse(text, form)
    assert remedy in caught.value.remedy


def test_owner_and_viewer_are_never_mixed_up() -> None:
    template = Template.parse("/m/%{owner_user}/%{user | lower}")
    assert template.needs_owner
    partly = template.partial(BOB)
    assert str(partly) == "/m/%{owner_user}/bob@example.com"
    assert template.expand(BOB.for_owner(ALICE)) == "/m/alice@x.org/bob@example.com"
    assert partly.expand(BOB.for_owner(ALICE)) == "/m/alice@x.org/bob@example.com"


def test_old_owner_variables() -> None:
    template = Template.parse("%%u %%n %%d %%h %%Lu %u", Form.V23)
    assert template.names >= {"owner_user", "owner_username", "owner_domain", "owner_home"}
    assert template.expand(BOB.for_owner(ALICE)) == (
        "alice@x.org alice x.org /home/alice alice@x.org Bob@Example.COM"
    )


def test_what_depends_on_the_viewer() -> None:
    for text, want in (
        ("~/x", True), ("%{home}/x", True), ("/v/%{user}", True), ("/v/%{owner_user}", False),
        ("/v", False), ("%{owner_home}/x", False), ("/v/%{hostname}", False),
    ):  # fmt: skip
        assert Template.parse(text).depends_on_viewer is want, text


@pytest.mark.parametrize("text", ["%{home}/M", "%{uid}", "%{userdb:quota}"])
def test_a_value_nobody_has_is_a_refusal(text: str) -> None:
    with pytest.raises(SharingError) as caught:
        Template.parse(text).expand(Variables(user="bob"))
    assert caught.value.code is Code.UNAVAILABLE
    assert "bob" in caught.value.detail


def test_more_variables() -> None:
    assert Variables(user="b").expand("%{userdb:quota:1G}") == "1G"
    with_more = Variables(user="bob", more={"passdb:shard": "7", "auth_user": "admin"})
    assert with_more.expand("/s%{passdb:shard}/%{auth_user}") == "/s7/admin"
    assert Variables(user="bob", master_user="admin").expand("%{auth_user}") == "admin"


def test_a_filter_that_cannot_take_the_value_is_a_refusal() -> None:
    for text in ("%{user | unhexlify}", "%{user | regexp('(', '')}", "%{user | hash('nope')}"):
        with pytest.raises(SharingError) as caught:
            Template.parse(text).expand(BOB)
        assert caught.value.code is Code.INVALID


@given(st.text(max_size=60), st.sampled_from(Form))
def test_any_text_is_a_template_or_bad(text: str, form: Form) -> None:
    try:
        template = Template.parse(text, form)
    except BadTemplate:
        return
    assert Template.parse(template.written()).parts == template.parts


def test_literal_text_has_owner_variables_only() -> None:
    template = Template.parse("/%u/%{user}/100%/%{owner_user}", Form.LITERAL)
    assert template.expand(BOB.for_owner(ALICE)) == "/%u/%{user}/100%/alice@x.org"


HOMELESS: dict[str, Callable[[], object]] = {
    "private": lambda: load(text="mail_path = ~/Maildir").settings(variables=Variables(user="bob")),
    "default": lambda: load(text="").settings(variables=Variables(user="bob")),
}


@pytest.mark.parametrize("action", HOMELESS.values(), ids=HOMELESS)
def test_a_user_without_home_is_refused_with_a_reason(action: Callable[[], object]) -> None:
    with pytest.raises(SharingError, match="bob has no home") as caught:
        action()
    assert caught.value.code is Code.UNAVAILABLE


def test_before_a_user_is_known_nothing_is_expanded() -> None:
    found = load(text="mail_path = %{home}/M\nmail_home = /home/%{user}").settings()
    assert found.mail_home == "/home/%{user}"
    assert found.namespaces[0].location.path == Path("%{home}/M")
