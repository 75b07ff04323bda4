"""passdb, userdb and service blocks -> their typed settings.  Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sharefs.config.kinds import BOOL, OCTAL, OCTETS, SECONDS, UINT, WORDS
from sharefs.config.scope import Scope, Value, fold_list, fold_pairs
from sharefs.config.services import (
    DEFAULT_SERVICES,
    InetListener,
    PassdbSettings,
    ServiceSettings,
    UnixListener,
    UserdbSettings,
)
from sharefs.config.variables import Template


def _grouped(layers: Iterable[Scope], kind: str) -> list[list[Scope]]:
    """Blocks of one kind; the same name in a later layer continues the earlier one."""
    named: dict[str, list[Scope]] = {}
    ordered: list[list[Scope]] = []
    for layer in layers:
        for scope in layer.of_kind(kind):
            if scope.name and scope.name in named:
                named[scope.name].append(scope)
                continue
            group = [scope]
            ordered.append(group)
            if scope.name:
                named[scope.name] = group
    return ordered


def _last(scopes: Sequence[Scope], name: str) -> Value | None:
    for scope in reversed(scopes):
        if (value := scope.last(name)) is not None:
            return value
    return None


def _text(scopes: Sequence[Scope], name: str, default: str = "") -> str:
    value = _last(scopes, name)
    return default if value is None else value.text


def _flag(scopes: Sequence[Scope], name: str) -> bool:
    return BOOL.parse(_text(scopes, name, "no"))


def _template(scopes: Sequence[Scope], name: str) -> Template | None:
    value = _last(scopes, name)
    return None if value is None or not value.text else Template.parse(value.text, value.form)


def _pairs(scopes: Sequence[Scope], name: str) -> Mapping[str, Template]:
    values = (value for scope in scopes for value in scope.values.get(name, ()))
    return {
        key: Template.parse(value.text, value.form) for key, value in fold_pairs(values).items()
    }


def _words(scopes: Sequence[Scope], name: str) -> tuple[str, ...]:
    folded = fold_list(value for scope in scopes for value in scope.values.get(name, ()))
    return WORDS.parse(folded.text) if folded else ()


def _common(scopes: Sequence[Scope], success: str = "return-ok") -> dict[str, Any]:
    name = scopes[0].name
    return {
        "name": name,
        "driver": _text(scopes, "driver", name),
        "fields": _pairs(scopes, "fields"),
        "default_fields": _pairs(scopes, "default_fields"),
        "override_fields": _pairs(scopes, "override_fields"),
        "passwd_file_path": _template(scopes, "passwd_file_path"),
        "username_format": _template(scopes, "auth_username_format"),
        "skip": _text(scopes, "skip", "never"),
        "result_success": _text(scopes, "result_success", success),
        "result_failure": _text(scopes, "result_failure", "continue"),
        "result_internalfail": _text(scopes, "result_internalfail", "continue"),
        "place": scopes[0].place,
    }


def passdbs_of(layers: Sequence[Scope]) -> tuple[PassdbSettings, ...]:
    return tuple(
        PassdbSettings(
            **_common(scopes),
            master=_flag(scopes, "master"),
            deny=_flag(scopes, "deny"),
            pass_through=_flag(scopes, "pass"),
            default_password_scheme=_text(scopes, "default_password_scheme"),
            static_password=_template(scopes, "static_password"),
            pam_service_name=_template(scopes, "pam_service_name"),
            pam_session=_flag(scopes, "pam_session"),
            pam_setcred=_flag(scopes, "pam_setcred"),
            pam_max_requests=UINT.parse(_text(scopes, "pam_max_requests", "0")),
            failure_show_msg=_flag(scopes, "pam_failure_show_msg"),
            mechanisms=_words(scopes, "mechanisms_filter"),
            username_filter=tuple(_text(scopes, "username_filter").split()),
        )
        for scopes in _grouped(layers, "passdb")
    )


def userdbs_of(layers: Sequence[Scope]) -> tuple[UserdbSettings, ...]:
    return tuple(
        UserdbSettings(
            **_common(scopes), static_allow_all_users=_flag(scopes, "static_allow_all_users")
        )
        for scopes in _grouped(layers, "userdb")
    )


def services_of(layers: Sequence[Scope]) -> Mapping[str, ServiceSettings]:
    """Every service, those without a block too."""
    services = dict(DEFAULT_SERVICES)
    for scopes in _grouped(layers, "service"):
        name = scopes[0].name
        services[name] = _service(services.get(name, ServiceSettings(name=name)), scopes)
    return services


def _service(base: ServiceSettings, scopes: Sequence[Scope]) -> ServiceSettings:
    changes: dict[str, Any] = {"place": scopes[0].place}
    for name in ("client_limit", "process_limit", "process_min_avail", "service_count"):
        if (value := _last(scopes, name)) is not None:
            changes[name] = UINT.parse(value.text)
    for name in ("user", "group", "chroot"):
        if (value := _last(scopes, name)) is not None:
            changes[name] = value.text
    if (value := _last(scopes, "vsz_limit")) is not None:
        changes["vsz_limit"] = OCTETS.parse(value.text)
    if (value := _last(scopes, "idle_kill")) is not None:
        changes["idle_kill"] = SECONDS.parse(value.text)
    changes["extra_groups"] = _words(scopes, "extra_groups") or base.extra_groups
    inet = dict(base.inet_listeners)
    for group in _grouped(scopes, "inet_listener"):
        name = group[0].name
        inet[name] = _inet(inet.get(name, InetListener(name=name, port=0)), group)
    unix = dict(base.unix_listeners)
    for group in _grouped(scopes, "unix_listener"):
        path = _text(group, "path", group[0].name)
        unix[group[0].name] = UnixListener(
            path=path,
            mode=OCTAL.parse(_text(group, "mode", "0600")),
            user=_text(group, "user"),
            group=_text(group, "group"),
            place=group[0].place,
        )
    return replace(base, inet_listeners=inet, unix_listeners=unix, **changes)


def _inet(base: InetListener, scopes: Sequence[Scope]) -> InetListener:
    port = _last(scopes, "port")
    ssl = _last(scopes, "ssl")
    return replace(
        base,
        port=base.port if port is None else UINT.parse(port.text),
        ssl=base.ssl if ssl is None else BOOL.parse(ssl.text),
        addresses=_words(scopes, "address") or base.addresses,
        place=scopes[0].place,
    )
