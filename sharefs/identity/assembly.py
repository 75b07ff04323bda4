"""From what databases said about somebody to a MailUser: ids, home, groups, ACL names.

Every value knows where it was written, because the question that follows an error here is always
"which of my three files says that?".
"""

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from sharefs.config.variables import Variables
from sharefs.errors import Code, SharingError
from sharefs.identity import groups
from sharefs.identity.fields import Fields, expand
from sharefs.identity.model import Group, MailUser
from sharefs.identity.settings import IdentitySettings, Sourced

log: Final = logging.getLogger(__name__)

_ACCESS: Final = "mail_access_groups"


def assemble(
    name: str, fields: Fields, settings: IdentitySettings, variables: Variables, *, euid: int
) -> MailUser:
    """Consumes fields.  Raises SharingError when the user cannot have a mail process.

    variables: of name; the home is added here.  euid: of this process; only root needs a uid
    from somewhere, others can only serve themselves.
    """
    uid, uid_origin = _uid(fields, settings, euid)
    primary = _primary(fields, settings, euid)
    if uid == 0:
        raise SharingError(
            Code.CANNOT,
            f"user {name}: uid 0 from {uid_origin} is the superuser's;"
            " the superuser has no mail here",
        )
    _demand_valid(name, uid, "uid", uid_origin, settings)
    _demand_valid(name, primary.gid, "gid", primary.origin, settings)
    home, home_origin = home_of(name, fields, settings, variables)
    fields.take("home")
    acl_user, acl_groups = _acl_names(fields, settings, variables)
    return MailUser(
        name=name,
        uid=uid,
        gid=primary.gid,
        home=home,
        groups=groups.merge(
            [replace(primary, origin=f"primary group, {primary.origin}")],
            _system_groups(fields, primary.gid, settings, variables),
            _access_groups(fields, settings, variables),
        ),
        acl_user=acl_user or fields.get("master_user") or variables.master_user or name,
        acl_groups=acl_groups,
        master=variables.master_user,
        fields=fields.values(),
        origins={"uid": uid_origin, "gid": primary.origin, "home": home_origin},
    )


def home_of(
    name: str, fields: Fields, settings: IdentitySettings, variables: Variables
) -> tuple[Path | None, str]:
    """The home and its origin; None if nobody names one.  Raises SharingError(INVALID)."""
    text, origin = fields.get("home"), fields.origin("home")
    if not text:
        origin = settings.mail_home.origin
        text = expand(settings.mail_home.value, variables, origin)
    if not text:
        return None, ""
    if not text.startswith("/") or "\0" in text:
        raise SharingError(
            Code.INVALID, f"user {name}: the home {text!r} from {origin} is not an absolute path"
        )
    if ".." in text.split("/"):
        raise SharingError(Code.INVALID, f"user {name}: the home {text!r} from {origin} has ..")
    return Path(text), origin


def _uid(fields: Fields, settings: IdentitySettings, euid: int) -> tuple[int, str]:
    text, origin = fields.take("uid")
    if not text:
        text, origin = settings.mail_uid.value.source, settings.mail_uid.origin
    if text:
        return groups.uid_of(text, origin), origin
    if euid == 0:
        raise SharingError(
            Code.INVALID, "the userdb gave no uid; set mail_uid, or uid in the userdb's fields"
        )
    return euid, "this process, which is not root"


def _primary(fields: Fields, settings: IdentitySettings, euid: int) -> Group:
    text, origin = fields.take("gid")
    if not text:
        text, origin = settings.mail_gid.value.source, settings.mail_gid.origin
    if text:
        return groups.group_of(text, origin)
    if euid == 0:
        raise SharingError(
            Code.INVALID, "the userdb gave no gid; set mail_gid, or gid in the userdb's fields"
        )
    gid = os.getegid()
    return Group(gid, groups.name_of(gid), "this process, which is not root")


def _demand_valid(
    name: str, number: int, what: str, origin: str, settings: IdentitySettings
) -> None:
    valid = settings.uids if what == "uid" else settings.gids
    if number == 0 or number not in valid:
        raise SharingError(
            Code.CANNOT,
            f"user {name}: {what} {number} from {origin} may have no mail: "
            f"the valid range is {valid} ({valid.names})",
        )


def _system_groups(
    fields: Fields, gid: int, settings: IdentitySettings, variables: Variables
) -> Iterable[Group]:
    """Those outside of the valid range are dropped silently, as Dovecot drops them."""
    user, origin = fields.take("system_groups_user")
    if user is None:
        setting = settings.system_groups_user
        user, origin = expand(setting.value, variables, setting.origin), setting.origin
    if not user:
        return ()
    origin = (
        f"{origin} group of {user}"
        if origin == "passwd"
        else f"system_groups_user {user} from {origin}"
    )
    found = groups.system_groups(user, gid, origin)
    if len(found) == 1 and not groups.is_user(user):
        log.warning(
            "%s: this host knows no such user, and no group lists it, so it gives no groups", origin
        )
    return [group for group in found if group.gid != gid and group.gid in settings.gids]


def _access_groups(
    fields: Fields, settings: IdentitySettings, variables: Variables
) -> Iterable[Group]:
    """mail_access_groups: the setting's groups and the userdb's together.

    An empty field takes the setting's away; the field `mail_access_groups/NAME` with the value yes
    adds one group, with no it takes one away.
    """
    found = _listed(settings.mail_access_groups, _ACCESS, variables)
    text, origin = fields.take(_ACCESS)
    if text is not None:
        mine = [
            groups.group_of(name, f"{_ACCESS} from {origin}") for name in groups.split_names(text)
        ]
        found = [*found, *mine] if mine else []
    for field in [field for field in fields if field.startswith(_ACCESS + "/")]:
        value, origin = fields.take(field)
        group = groups.group_of(field.partition("/")[2], f"{_ACCESS} from {origin}")
        found = [have for have in found if have.gid != group.gid]
        if value == "yes":
            found.append(group)
    for group in found:
        if group.gid == 0:
            raise SharingError(
                Code.CANNOT, f"{group.origin} names group 0, the superuser's: mail needs another"
            )
    return found


def _listed(setting: Sourced, name: str, variables: Variables) -> list[Group]:
    text = expand(setting.value, variables, setting.origin)
    origin = f"{name} at {setting.origin}"
    return [groups.group_of(word, origin) for word in groups.split_names(text)]


def _acl_names(
    fields: Fields, settings: IdentitySettings, variables: Variables
) -> tuple[str, frozenset[str]]:
    """acl_user and acl_groups; a field takes the place of the setting."""
    user, _ = fields.take("acl_user")
    if user is None:
        user = expand(settings.acl_user.value, variables, settings.acl_user.origin)
    names, _ = fields.take("acl_groups")
    if names is None:
        names = expand(settings.acl_groups.value, variables, settings.acl_groups.origin)
    # Group names may have spaces (they come from directories), so only commas separate.
    return user, frozenset(name.strip() for name in names.split(",") if name.strip())
