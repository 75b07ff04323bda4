"""From a Config to what this room needs: one place that knows both vocabularies."""

from dataclasses import replace
from typing import Any, Final

from sharefs.config import Config, Form, PassdbSettings, Template, UserdbSettings
from sharefs.config.resolve import Resolver, layers_of
from sharefs.config.scope import Scope
from sharefs.config.settings import SCHEMA
from sharefs.errors import Code, Place, SharingError
from sharefs.identity.groups import IdRange
from sharefs.identity.settings import (
    DEFAULT_SERVICE,
    EMPTY,
    NOWHERE,
    Database,
    IdentitySettings,
    Result,
    Skip,
    Sourced,
)
from sharefs.identity.usernames import NameRules, parse_translation

# Dovecot's words for both kinds of database; they mean the same to us.
_SKIP: Final = {
    "never": Skip.NEVER,
    "found": Skip.IF_FOUND,
    "authenticated": Skip.IF_FOUND,
    "notfound": Skip.IF_NOT_FOUND,
    "unauthenticated": Skip.IF_NOT_FOUND,
}

_BUILT_IN: Final = Place("built in")


def identity_settings(
    config: Config | IdentitySettings, *, protocol: str = "imap"
) -> IdentitySettings:
    """What the configuration says about users, for one protocol.  Raises SharingError(INVALID)."""
    if isinstance(config, IdentitySettings):
        return config
    settings = config.settings(protocol=protocol)
    sourced = _Sources(config, protocol)
    names = NameRules(
        chars=frozenset(settings.auth_username_chars),
        translation=parse_translation(settings.auth_username_translation),
        format=sourced.of("auth_username_format").value
        or Template.parse(settings.auth_username_format),
        default_domain=settings.auth_default_domain,
        master_separator=settings.auth_master_user_separator[:1],
    )
    return IdentitySettings(
        form=config.forms.get(config.root.place.file, Form.V24),
        passdbs=tuple(_passdb(each) for each in settings.passdbs),
        userdbs=tuple(_userdb(each) for each in settings.userdbs),
        names=names,
        mail_uid=sourced.of("mail_uid"),
        mail_gid=sourced.of("mail_gid"),
        mail_home=sourced.of("mail_home"),
        mail_access_groups=sourced.of("mail_access_groups"),
        system_groups_user=sourced.of("system_groups_user"),
        acl_user=sourced.of("acl_user"),
        acl_groups=sourced.of("acl_groups"),
        uids=_range(settings.first_valid_uid, settings.last_valid_uid, "uid"),
        gids=_range(settings.first_valid_gid, settings.last_valid_gid, "gid"),
    )


def _range(first: int, last: int, what: str) -> IdRange:
    return IdRange(first, last, f"first_valid_{what} and last_valid_{what}")


class _Sources:
    """Settings as they were written, with their place: templates are not expanded here."""

    def __init__(self, config: Config, protocol: str) -> None:
        layers: list[Scope] = list(layers_of(config.root, protocol, None))
        layers += layers_of(config.overrides, protocol, None)
        self._resolver = Resolver(layers, None)

    def of(self, name: str) -> Sourced:
        """NOWHERE if the setting is not set."""
        folded = self._resolver.folded(name, SCHEMA[name], self._resolver.layers)
        if folded is None:
            return NOWHERE
        return Sourced(Template.parse(folded.text, folded.form), str(folded.place))


def _common(block: PassdbSettings | UserdbSettings) -> dict[str, Any]:
    place = block.place or _BUILT_IN
    is_static = block.driver == "static"
    try:
        results = [Result(word) for word in (block.result_success, block.result_failure,
                                             block.result_internalfail)]  # fmt: skip
        skip = _SKIP[block.skip]
    except (ValueError, KeyError) as exc:
        raise SharingError(
            Code.INVALID, f"{place}: {exc} is not known; write return-ok, return-fail, return, "
            "continue-ok, continue-fail or continue, and never, found or notfound for skip",
        ) from exc  # fmt: skip
    if block.driver == "passwd-file" and block.passwd_file_path is None:
        raise SharingError(
            Code.INVALID, f"{place}: this passwd-file has no passwd_file_path; write "
            "passwd_file_path = /etc/dovecot/users",
        )  # fmt: skip
    return {
        "driver": block.driver,
        "name": block.name,
        "place": place,
        "path": block.passwd_file_path or EMPTY,
        "username_format": block.username_format or EMPTY,
        "fields": block.fields if is_static else {},
        "defaults": block.default_fields,
        "overrides": {**({} if is_static else block.fields), **block.override_fields},
        "skip": skip,
        "on_success": results[0],
        "on_failure": results[1],
        "on_internal_failure": results[2],
    }


def _passdb(block: PassdbSettings) -> Database:
    service = block.pam_service_name or DEFAULT_SERVICE
    if service.source == "*":  # 2.3: the name of the protocol
        service = Template.parse("%{protocol}")
    database = Database(
        **_common(block),
        scheme=block.default_password_scheme or ("PLAIN" if block.driver == "static" else "CRYPT"),
        username_filter=block.username_filter,
        mechanisms=tuple(word.upper() for word in block.mechanisms),
        service=service,
        pam_session=block.pam_session,
        pam_setcred=block.pam_setcred,
        deny=block.deny,
        master=block.master,
    )
    if block.static_password is not None:
        database = replace(database, fields={**database.fields, "password": block.static_password})
    if block.pass_through:
        database = replace(database, on_success=Result.CONTINUE)
    return database


def _userdb(block: UserdbSettings) -> Database:
    return Database(**_common(block), allow_all_users=block.static_allow_all_users)
