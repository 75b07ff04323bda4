"""From settings to things that work: storages, subscriptions files, the sharing map."""

import hashlib
import os
from pathlib import Path
from typing import Final, Literal

from sharefs import fsops
from sharefs.config import Settings
from sharefs.config.namespaces import Location, MapSettings, NamespaceSettings
from sharefs.errors import Code, SharingError
from sharefs.names import Layout, Naming
from sharefs.namespaces.namespace import Found, Namespace
from sharefs.namespaces.subscriptions import Subscriptions
from sharefs.permissions.acting import file_gid, file_uid
from sharefs.permissions.inherit import Creation
from sharefs.permissions.lookup import creation_for_mailbox, plan_missing_root
from sharefs.sharing.file_map import FileMap
from sharefs.sharing.fs_map import FsPosixMap
from sharefs.sharing.maps import ShareMap
from sharefs.store.interface import Storage
from sharefs.store.maildir.config import Fsync, MaildirConfig
from sharefs.store.maildir.storage import MaildirStorage

MAILDIR: Final = "maildir"
LOCK_TIMEOUT: Final = 122  # seconds; Dovecot's for dovecot-uidlist


def open_storage(space: NamespaceSettings, location: Location, settings: Settings) -> Storage:
    """The storage of one namespace.  Raises SharingError(UNAVAILABLE) for a driver we lack."""
    if location.driver != MAILDIR:
        raise SharingError(
            Code.UNAVAILABLE,
            f"namespace {space.name}: mail_driver {location.driver!r} is not implemented;"
            " use maildir",
        )
    return MaildirStorage(maildir_config(space, location, settings))


def maildir_config(
    space: NamespaceSettings, location: Location, settings: Settings
) -> MaildirConfig:
    """What a Maildir storage needs to know of its namespace."""
    has_inbox = space.inbox or space.type == "shared" or bool(space.alias_for)
    return MaildirConfig(
        root=location.path,
        template=location.path_template.source,
        control=location.control_path,
        naming=Naming(Layout(location.layout), location.utf8),
        has_inbox=has_inbox,
        inbox_path=location.inbox_path if has_inbox else None,
        create_inbox=space.inbox and space.type == "private",
        permissions_from=permissions_from(settings),
        fsync=Fsync(settings.mail_fsync),
        links_between=settings.maildir_copy_with_hardlinks,
        lock_timeout=settings.mail_max_lock_timeout or LOCK_TIMEOUT,
        lock_excl=settings.dotlock_use_excl,
    )


def permissions_from(settings: Settings) -> Literal["root", "parent"]:
    return "parent" if settings.sharefs_mailbox_permissions_from == "parent" else "root"


def root_creation(location: Location) -> Creation:
    """What belongs to a namespace's root gets: subscriptions, list caches."""
    return creation_for_mailbox(location.path, (), source="root", egid=file_gid())


def creation_for(found: Found, settings: Settings) -> Creation:
    """What new files in a mailbox get; of a missing one: what it would get itself."""
    storage, levels = found.namespace.storage, found.levels
    upwards = [storage.mailbox_path(levels[:depth]) for depth in range(len(levels), 0, -1)]
    return creation_for_mailbox(
        found.namespace.location.path, upwards, source=permissions_from(settings),
        egid=file_gid(),
    )  # fmt: skip


def make_root(location: Location) -> None:
    """Make a missing mail root by the rules for it.  Harmless if it is there.  Raises OSError."""
    plan = plan_missing_root(location.path_template.source, location.path, egid=file_gid())
    fsops.make_root(plan)


def open_subscriptions(namespace: Namespace, settings: Settings) -> Subscriptions:
    """The subscriptions file of a namespace that has one, in its control root."""
    location = namespace.location
    directory = location.control_dir

    def ensure_directory() -> None:
        if not directory.is_dir():
            make_root(location)
            fsops.make_dirs(directory, root_creation(location))

    return Subscriptions(
        directory / location.subscriptions_file_name,
        namespace.naming.layout.separator,
        lambda: root_creation(location),
        ensure_directory=ensure_directory,
        fsync=settings.mail_fsync != "never",
    )


def open_map(settings: MapSettings | None) -> ShareMap | None:
    """The sharing map.  None: there is none, or its driver is not ours.

    The configuration loader has said which drivers are not implemented, with file and line.
    """
    if settings is None:
        return None
    if settings.driver == "file" and settings.path is not None:
        return FileMap(settings.path)
    if settings.driver == "fs" and settings.parameters.get("prefix"):
        return FsPosixMap(settings.parameters["prefix"])
    return None


def private_seen_dir(namespace: Namespace, levels: tuple[str, ...]) -> Path | None:
    """Where the viewer keeps \\Seen of a mailbox that others own; None: he shares theirs.

    As Dovecot lays it out: the private index root and the mailbox in the layout's spelling.
    """
    root = namespace.location.index_private_path
    if root is None or namespace.type == "private" or not levels:
        return None
    stored = namespace.stored_name(levels)
    return root / ("." + stored if namespace.naming.layout.separator == "." else stored)


def index_places(
    found: Found, settings: Settings, home: Path | None, *, true_place: str | None = None
) -> list[Path]:
    """Where a viewer may keep his own index of a mailbox, the best place first.

    true_place: of the mailbox, without links, if that has been found out.

    The index directory that the configuration names, if nobody else uses it; the viewer's own
    directory for all indexes, by the mailbox's true place.  Neither is within a mailbox: what lies
    there is for everybody who shares it.
    """
    namespace, location = found.namespace, found.namespace.location
    if "mail_index_path" in location.in_memory or not found.levels:
        return []
    mail = namespace.storage.mailbox_path(found.levels)
    places: list[Path] = []
    root = location.index_path
    if root is not None and root != location.path and _is_ours_alone(root):
        places.append(below(root, location.path, mail) or root)
    own = own_index_root(settings, home)
    if own is not None:
        path = os.path.realpath(mail) if true_place is None else true_place
        places.append(own / hashlib.sha256(os.fsencode(path)).hexdigest()[:32])
    return places


def own_index_root(settings: Settings, home: Path | None) -> Path | None:
    """Where a viewer has a directory for each index that has no better place."""
    path = settings.sharefs_index_path
    if path.startswith("~/"):
        return None if home is None else home / path[2:]
    return Path(path) if path else None


def _is_ours_alone(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == file_uid() and not status.st_mode & 0o077


def below(root: Path | None, mail_root: Path, mail: Path) -> Path | None:
    """A mailbox's directory below another root, laid out as below the mail root."""
    if root is None:
        return None
    return root / mail.relative_to(mail_root) if mail.is_relative_to(mail_root) else root


def paths_of(found: Found) -> dict[str, str]:
    """Where a mailbox is on disk: "mailbox", "control", "acl", and what else is set apart."""
    namespace, location = found.namespace, found.namespace.location
    if not found.levels:
        return {"mailbox": str(location.path)}
    mail = namespace.storage.mailbox_path(found.levels)
    paths: dict[str, Path | None] = {
        "mailbox": mail,
        "control": below(location.control_path, location.path, mail) or mail,
        "index": below(location.index_path, location.path, mail) or mail,
        "private": private_seen_dir(namespace, found.levels),
        "acl": namespace.storage.acl_directory(found.levels),
    }
    return {kind: str(path) for kind, path in paths.items() if path is not None}
