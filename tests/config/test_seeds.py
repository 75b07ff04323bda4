"""Every snippet of the documents loads, and means what the text around it says."""

from pathlib import Path

import pytest

from sharefs.config import Config, NamespaceSettings, Severity, Variables, load
from tests.config import seeds

BOB = Variables(user="bob@example.com", home="/home/bob", uid=1001, gid=1001)
ALICE = Variables(user="alice@example.com", home="/home/alice")


def loaded(*texts: str) -> Config:
    return load(text="".join(texts), lookup_group=lambda name: True)


def checks_of(config: Config, severity: Severity) -> dict[str, int]:
    """Check id -> line, of the findings of one severity."""
    return {each.check: each.place.line for each in config.problems if each.severity is severity}


def namespace(config: Config, name: str) -> NamespaceSettings:
    return config.settings(variables=BOB).namespace(name)


@pytest.mark.parametrize("text", seeds.SNIPPETS.values(), ids=seeds.SNIPPETS)
def test_every_snippet_loads(text: str) -> None:
    config = loaded(text)
    for problem in config.problems:
        assert problem.place.line, problem
    config.settings(variables=BOB)


def test_public_namespace() -> None:
    config = loaded(seeds.PUBLIC)
    assert config.problems == ()
    private, public = config.settings(variables=BOB).namespaces
    assert (private.type, private.inbox, private.prefix, private.separator) == (
        "private", True, "", "/",
    )  # fmt: skip
    assert private.location.path == Path("/home/bob/Maildir")
    assert private.location.layout == "maildir++"
    assert (public.type, public.prefix, public.inbox) == ("public", "Public/", False)
    assert public.location.path == Path("/var/mail/public")
    assert public.location.driver == "maildir"
    assert not public.subscriptions
    assert public.location.index_private_path is None


def test_private_seen_flags() -> None:
    public = namespace(loaded(seeds.PRIVATE, seeds.PRIVATE_SEEN), "public")
    assert public.location.index_private_path == Path("/home/bob/Maildir/public")


def test_subscriptions_namespace() -> None:
    inbox = seeds.PRIVATE.replace("inbox = yes", "inbox = yes\nprefix = INBOX/")
    config = loaded(inbox, seeds.SUBSCRIPTIONS)
    assert config.problems == ()
    found = namespace(config, "subscriptions")
    assert (found.hidden, found.list, found.subscriptions) == (True, "no", True)
    assert found.alias_for == "inbox"
    assert found.subscriptions_file_name == "subscriptions-shared"


def test_alias_finds_an_unnamed_inbox_namespace() -> None:
    inbox = "namespace {\nseparator = /\nprefix = INBOX/\ninbox = yes\n}\n"
    assert namespace(loaded(inbox, seeds.SUBSCRIPTIONS), "subscriptions").alias_for == "inbox"


def test_read_only_mbox_is_named_as_not_implemented() -> None:
    config = loaded(seeds.READ_ONLY_MBOX, seeds.PRIVATE)
    unimplemented = [each for each in config.problems if each.severity is Severity.UNIMPLEMENTED]
    assert [(each.place.line, "mbox" in each.message) for each in unimplemented] == [(4, True)]
    public = namespace(config, "public")
    assert public.location.driver == "mbox"
    assert public.location.index_path == Path("/var/indexes/public")
    assert public.separator == "/"


def test_read_only_maildir() -> None:
    config = loaded(seeds.READ_ONLY_MAILDIR, seeds.PRIVATE)
    assert set(checks_of(config, Severity.WARNING)) == {"per-user-control-breaks-keywords"}
    public, team, _ = config.settings(variables=BOB).namespaces
    assert public.location.control_path == Path("/home/bob/Maildir/public")
    assert public.location.index_path == Path("/home/bob/Maildir/public")
    assert (team.name, team.location.control_dir) == ("team", Path("/home/bob/Maildir/team"))
    assert team.location.path == Path("/var/mail/team")


def test_public_mailboxes_with_acls() -> None:
    config = loaded(seeds.PUBLIC_WITH_ACL, seeds.PRIVATE.replace("separator = /", "separator = ."))
    assert config.problems == ()
    settings = config.settings(variables=BOB)
    assert settings.acl_enabled
    assert settings.acl_driver == "vfile"
    public = settings.namespace("public")
    assert (public.list, public.separator, public.prefix) == ("children", ".", "public.")


def test_user_shared_mailboxes() -> None:
    config = loaded(seeds.USER_SHARED, seeds.FILE_MAP)
    assert config.problems == ()
    settings = config.settings(variables=BOB)
    assert settings.mail_plugins == ("acl", "imap_acl")
    assert config.settings(protocol="lmtp", variables=BOB).mail_plugins == ("acl",)
    assert settings.sharing_map is not None
    assert settings.sharing_map.driver == "file"
    assert settings.sharing_map.path == Path("/var/lib/dovecot/db/shared-mailboxes.db")
    shared = settings.namespace("shared")
    assert (shared.type, shared.prefix, shared.list) == ("shared", "shared/$user/", "children")
    assert shared.listable_prefix == "shared/"
    assert shared.location.needs_owner_home
    of_alice = shared.location.for_owner(ALICE)
    assert of_alice.path == Path("/home/alice/Maildir")
    assert of_alice.index_private_path == Path("/home/bob/Maildir/shared/alice@example.com")


def test_without_a_map_shares_are_never_listed_and_we_say_so() -> None:
    assert checks_of(loaded(seeds.USER_SHARED), Severity.WARNING) == {"no-sharing-map": 12}


def test_template_without_home_lookup() -> None:
    opening = "namespace s {\ntype = shared\nprefix = s/$user/\nseparator = /\n"
    block = f"{opening}{seeds.OWNER_TEMPLATE}}}\n"
    shared = namespace(loaded(seeds.PRIVATE, block), "s")
    assert shared.location.needs_owner
    assert not shared.location.needs_owner_home
    of_alice = shared.location.for_owner(Variables(user="alice@example.com"))
    assert of_alice.path == Path("/var/mail/example.com/alice/Maildir")
    assert of_alice.path_template.source == "/var/mail/%{owner_domain}/%{owner_username}/Maildir"


def test_map_for_each_domain() -> None:
    found = loaded(seeds.DOMAIN_MAP).settings(variables=BOB).sharing_map
    assert found is not None
    assert found.path == Path("/var/mail/example.com/shared-mailboxes.db")


def test_sql_map_is_named_as_not_implemented() -> None:
    config = loaded(seeds.SQL_MAP)
    found = [
        (each.place.line, each.severity)
        for each in config.problems
        if each.check == "unimplemented"
    ]
    assert found == [(2, Severity.UNIMPLEMENTED), (6, Severity.UNIMPLEMENTED)]
    sharing = config.settings(variables=BOB).sharing_map
    assert sharing is not None
    assert (sharing.driver, sharing.parameters) == ("proxy", {"name": "acl"})


def test_domain_directories() -> None:
    settings = loaded(seeds.DOMAIN_DIRECTORIES).settings(variables=BOB)
    (inbox,) = settings.namespaces
    assert inbox.location.path == Path("/var/vmail/example.com/bob/Maildir")
    template = "/var/vmail/%{user | domain}/%{user | username}/Maildir"
    assert inbox.location.path_template.source == template
    assert settings.mail_access_groups == ("dovemail",)
    assert settings.origin("mail_access_groups") == "(text):3"


def test_groups_and_debug() -> None:
    assert loaded(seeds.SHARED_MAIL_GROUP).settings().mail_access_groups == ("sharedmail",)
    assert loaded(seeds.SHARED_USERS_GROUP).settings().mail_access_groups == ("sharedusers",)
    assert loaded(seeds.DEBUG).settings().log_debug == "category=mail"


def test_cluster_namespace_of_the_2_3_form() -> None:
    config = loaded(seeds.CLUSTER_NAMESPACE)
    assert checks_of(config, Severity.UNIMPLEMENTED) == {"unimplemented": 9}
    shared = namespace(config, "shared")
    assert shared.prefix == "shared/$user/"
    assert shared.location.driver == "imapc"
    of_alice = shared.location.for_owner(ALICE)
    assert of_alice.path == Path("/home/bob/shared/alice@example.com")
    assert of_alice.index_private_path == Path("/home/bob/shared-pvt/alice@example.com")


def test_cluster_imapc_settings_are_each_named() -> None:
    config = loaded(seeds.CLUSTER_IMAPC)
    assert [(each.place.line, each.message.split()[0]) for each in config.problems] == [
        (1, "imapc_host"), (3, "imapc_password"), (4, "imapc_features"),
    ]  # fmt: skip
    assert {each.severity for each in config.problems} == {Severity.UNIMPLEMENTED}


def test_cluster_acl_settings() -> None:
    config = loaded(seeds.CLUSTER_ACL)
    settings = config.settings(variables=BOB)
    assert settings.mail_plugins == ("acl", "imap_acl")
    assert config.settings(protocol="lda", variables=BOB).mail_plugins == ("acl",)
    assert settings.acl_driver == "vfile"
    assert settings.acl_ignore_patterns == ("shared/*",)
    # The document's placeholder for "the dictionary you prefer": no map, and a word about it.
    assert settings.sharing_map is None
    assert checks_of(config, Severity.WARNING) == {"undefined-variable": 6}


def test_cluster_whole_with_a_dictionary() -> None:
    acl = seeds.CLUSTER_ACL.replace("$your_prefered_shared_dict", "file:/srv/mail/shared.db")
    inbox = "namespace inbox {\ninbox = yes\nprefix =\nlocation = maildir:~/Maildir:LAYOUT=fs\n}\n"
    config = loaded(acl, seeds.CLUSTER_IMAPC, seeds.CLUSTER_NAMESPACE, inbox)
    assert {each.severity for each in config.problems} == {Severity.UNIMPLEMENTED}
    sharing = config.settings(variables=BOB).sharing_map
    assert sharing is not None
    assert sharing.path == Path("/srv/mail/shared.db")


def test_cluster_disables_shared_namespaces_for_master_users() -> None:
    """`userdb_namespace/shared/disabled=yes`, `userdb_acl_user=...` as extra fields."""
    config = loaded(seeds.PRIVATE, seeds.CLUSTER_NAMESPACE)
    fields = {"namespace/shared/disabled": "yes", "acl_user": "admin"}  # %{auth_user} filled in
    master = Variables(user="bob", home="/home/bob", master_user="admin")
    settings = config.settings(fields=fields, variables=master)
    assert [each.name for each in settings.namespaces] == ["inbox"]
    assert settings.acl_user == "admin"
    assert settings.origin("acl_user") == "userdb field acl_user"


def test_spelled_out_names() -> None:
    shared = namespace(loaded(seeds.SPELLED_OUT), "shared")
    assert (shared.prefix, shared.list) == ("shared/$domain/$username/", "yes")
