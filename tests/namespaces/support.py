"""Namespaces made by hand, with a home lookup and a storage that touch nothing."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sharefs.config.namespaces import Location, NamespaceSettings
from sharefs.config.variables import Template, Variables
from sharefs.identity.model import UnknownUser
from sharefs.namespaces.namespace import StorageMaker
from sharefs.namespaces.resolve import Namespaces


class Homes:
    """Homes of the users that exist; asked: whom anybody asked about, in order."""

    def __init__(self, homes: Mapping[str, Path | None]) -> None:
        self.homes = homes
        self.asked: list[str] = []

    def home_of(self, name: str) -> Path | None:
        self.asked.append(name)
        if name not in self.homes:
            raise UnknownUser(name)
        return self.homes[name]

    def exists(self, name: str) -> bool:
        return name in self.homes


def location(path: str, layout: str = "maildir++", **more: Any) -> Location:
    viewer = Variables(user="bob@ex.org", home="/home/bob")
    templates = {"mail_path": Template.parse(path)}
    return Location(
        driver="maildir", path=Path(path), layout=layout, templates=templates, viewer=viewer, **more
    )


def settings(
    prefix: str = "", type: str = "private", path: str = "/home/bob/Maildir", **more: Any
) -> NamespaceSettings:
    layout = more.pop("layout", "maildir++")
    return NamespaceSettings(
        name=more.pop("name", prefix or "inbox"),
        type=type,
        prefix=prefix,
        separator=more.pop("separator", "/"),
        location=more.pop("location", location(path, layout)),
        **more,
    )


def no_storage(*args: object) -> Any:
    raise AssertionError("nothing here needs a storage")


PRIVATE = settings(inbox=True)
PUBLIC = settings("Public/", "public", "/var/mail/public", subscriptions=False)
SHARED = settings("shared/$user/", "shared", "%{owner_home}/Maildir", subscriptions=False)
HOMES = {"alice": Path("/home/alice"), "carl@ex.org": Path("/home/carl"), "homeless": None}


def namespaces(
    *spaces: NamespaceSettings,
    viewer: str = "bob@ex.org",
    homes: Homes | None = None,
    make_storage: StorageMaker = no_storage,
    clock: Callable[[], float] = time.monotonic,
) -> Namespaces:
    return Namespaces(
        spaces or (PRIVATE, PUBLIC, SHARED),
        viewer=viewer,
        homes=homes or Homes(HOMES),
        make_storage=make_storage,
        clock=clock,
    )
