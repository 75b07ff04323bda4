"""A logged-in client on its way from auth and login to a worker, as values and as JSON.

Pure.  decode_x undoes encode_x; octets travel as base64.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharefs.identity.model import Group, MailUser


@dataclass(frozen=True, slots=True)
class Handover:
    """What a worker is told about a connection it gets.

    tag: of the LOGIN or AUTHENTICATE that the worker answers.  unread: octets the client had sent
    after that command.  remote, local: addresses as text, with port, for the log.  tls: the client
    speaks TLS, which a login process ends; the worker's stream is plain in any case.
    session_id: names the connection in every log line.  rest: the session as it was packed,
    if it slept; it comes beside the other values.
    """

    user: MailUser
    tag: str
    unread: bytes = b""
    remote: str = ""
    local: str = ""
    tls: bool = False
    session_id: str = ""
    rest: dict[str, Any] | None = None


def encode_user(user: MailUser) -> dict[str, Any]:
    """A MailUser as JSON values."""
    return {
        "name": user.name,
        "uid": user.uid,
        "gid": user.gid,
        "home": None if user.home is None else str(user.home),
        "groups": [[group.gid, group.name, group.origin] for group in user.groups],
        "acl_user": user.acl_user,
        "acl_groups": sorted(user.acl_groups),
        "master": user.master,
        "fields": dict(user.fields),
        "anonymous": user.anonymous,
        "origins": dict(user.origins),
    }


def decode_user(value: Mapping[str, Any]) -> MailUser:
    """The MailUser again.  Only for what our own auth process has written: raises KeyError."""
    return MailUser(
        name=value["name"],
        uid=value["uid"],
        gid=value["gid"],
        home=None if value["home"] is None else Path(value["home"]),
        groups=tuple(Group(gid, name, origin) for gid, name, origin in value["groups"]),
        acl_user=value["acl_user"],
        acl_groups=frozenset(value["acl_groups"]),
        master=value["master"],
        fields=value["fields"],
        anonymous=value["anonymous"],
        origins=value["origins"],
    )


def encode(handover: Handover) -> dict[str, Any]:
    """A Handover as JSON values."""
    return {
        "user": encode_user(handover.user),
        "tag": handover.tag,
        "unread": base64.b64encode(handover.unread).decode(),
        "remote": handover.remote,
        "local": handover.local,
        "tls": handover.tls,
        "session_id": handover.session_id,
    }


def decode(value: Mapping[str, Any]) -> Handover:
    """The Handover again.  Only for what our own spawner has written: raises KeyError."""
    return Handover(
        user=decode_user(value["user"]),
        tag=value["tag"],
        unread=base64.b64decode(value["unread"]),
        remote=value["remote"],
        local=value["local"],
        tls=value["tls"],
        session_id=value["session_id"],
    )
