"""Where the files of a mailbox are that somebody asks about, as its viewer has it.

Only reads.
"""

import os
from collections.abc import Iterator

from sharefs.account.context import Target
from sharefs.account.opening import permissions_from, private_seen_dir
from sharefs.audit.operations import (
    MailboxFiles,
)
from sharefs.audit.questions import Question, Verb
from sharefs.audit.viewing import ViewerContext
from sharefs.namespaces.namespace import Found
from sharefs.permissions.inherit import Creation
from sharefs.permissions.lookup import creation_for_mailbox
from sharefs.sharing.files import acl_path


def acl_questions(target: Target) -> Iterator[Question]:
    """Who cannot read an ACL file gets no rights from it."""
    for directory in (target.mailbox.acl_dir, target.mailbox.default_acl_dir):
        if directory is not None and os.path.lexists(acl_path(directory)):
            yield Question(Verb.READ, str(acl_path(directory)), "know the rights")


def map_questions(context: ViewerContext) -> Iterator[Question]:
    settings = context.settings.sharing_map
    if settings is not None and settings.path is not None and os.path.lexists(settings.path):
        yield Question(Verb.READ, str(settings.path), "know what is shared")


def creation_as(context: ViewerContext, found: Found) -> Creation:
    """As account.opening.creation_for, for the viewer's group and not this process's."""
    storage, levels = found.namespace.storage, found.levels
    upwards = [storage.mailbox_path(levels[:depth]) for depth in range(len(levels), 0, -1)]
    return creation_for_mailbox(
        found.namespace.location.path, upwards, source=permissions_from(context.settings),
        egid=context.user.gid,
    )  # fmt: skip


def files_of(context: ViewerContext, target: Target) -> MailboxFiles:
    """Where the files of a mailbox are, whether or not it exists."""
    found = target.found
    namespace, levels = found.namespace, found.levels
    location = namespace.location
    path = namespace.storage.mailbox_path(levels)
    control = path
    if location.control_path is not None:
        inside = path.is_relative_to(location.path)
        control = location.control_path / (path.relative_to(location.path) if inside else "")
    return MailboxFiles(
        path=path,
        control=control,
        root=location.path,
        acl_dir=target.mailbox.acl_dir,
        private_seen=private_seen_dir(namespace, levels),
        is_link=os.path.islink(path),
        is_automatic=context.is_auto(found) and not os.path.isdir(path / "cur"),
    )
