"""`sharefs predict`: what a creation that has not happened will leave on disk.

Only reads.  Mode, group and where they come from, a chgrp that will fail, whether a copy will be a
hard link, whether a rename will be refused: from the functions that will decide it when it happens.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharefs.account.context import Target
from sharefs.audit.mounts import group_rule_at
from sharefs.audit.names import Names
from sharefs.audit.operations import nearest_directory
from sharefs.audit.places import creation_as, files_of
from sharefs.audit.questions import Question, Verb, World, ask, file_kinds
from sharefs.audit.viewing import ViewerContext, credentials_of
from sharefs.errors import Code, SharingError
from sharefs.identity.model import MailUser
from sharefs.names import Layout
from sharefs.permissions.access import Credentials, Inode, can_create
from sharefs.permissions.explain import describe, inode_of
from sharefs.permissions.inherit import (
    DEFAULTS,
    Creation,
    Facts,
    link_decision,
    rename_decision,
)
from sharefs.permissions.lookup import plan_missing_root
from sharefs.permissions.predict import Prediction, predict_dir, predict_file


@dataclass(frozen=True, slots=True)
class Made:
    """One file or directory that would be made.

    what: for people.  made: whether it will be there afterwards; why: what refuses, else "".
    refused_group: the group that it cannot be given; a file is then kept with another, a directory
    is not made.  reason, origin: why this group, and where mode and group are taken from.
    """

    what: str
    path: str
    made: bool
    mode: int
    owner: str
    group: str
    reason: str
    origin: str
    refused_group: str = ""
    why: str = ""
    remedy: str = ""
    gid: int = 0

    def data(self) -> dict[str, Any]:
        return {
            "what": self.what, "path": self.path, "made": self.made, "mode": f"{self.mode:04o}",
            "owner": self.owner, "group": self.group, "reason": self.reason,
            "origin": self.origin, "chgrp_refused": self.refused_group, "why": self.why,
            "remedy": self.remedy,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decided:
    """Link or copy, rename or refusal.  outcome: "link", "copy", "renamed", "refused"."""

    outcome: str
    why: str

    def data(self) -> dict[str, str]:
        return {"outcome": self.outcome, "why": self.why}


@dataclass(frozen=True, slots=True)
class Predicted:
    """made: in the order in which it would happen.  decided: of copy-from and rename-to."""

    user: str
    target: str
    made: tuple[Made, ...]
    decided: Decided | None = None

    @property
    def succeeds(self) -> bool:
        refused = self.decided is not None and self.decided.outcome == "refused"
        return all(one.made for one in self.made) and not refused

    def data(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "target": self.target,
            "succeeds": self.succeeds,
            "made": [one.data() for one in self.made],
            "decided": None if self.decided is None else self.decided.data(),
        }


def predict_path(user: MailUser, path: str, names: Names) -> Predicted:
    """A new file and a new directory in an existing directory, made by the rules of a mailbox.

    Raises SharingError(NONEXISTENT) if path is no directory.
    """
    try:
        inode = inode_of(os.path.realpath(path))
    except OSError as error:
        raise SharingError(Code.NONEXISTENT, f"{path}: {error.strerror}") from error
    if not inode.is_directory:
        raise SharingError(Code.NONEXISTENT, f"{path} is not a directory")
    who = credentials_of(user)
    creation = Creation.of_directory(_facts(inode), egid=user.gid)
    made = (
        _file("a new file", inode, creation, who, names),
        _directory("a new directory", inode, "", creation, who, names),
    )
    return Predicted(user.name, path, made)


def predict_mailbox(
    context: ViewerContext,
    name: str,
    names: Names,
    *,
    copy_from: str | None = None,
    rename_to: str | None = None,
) -> Predicted:
    """Of a mailbox that exists: new messages and mailboxes below it.  Else: the mailbox itself.

    Rights are not looked at; sharefs explain does that.  Raises SharingError(NONEXISTENT) for a
    name that no mailbox can have.
    """
    target = _target(context, name)
    decided = None
    if rename_to is not None:
        decided = _rename(context, target, _target(context, rename_to))
        return Predicted(context.user.name, target.name, (), decided)
    made = tuple(_mailbox(context, target, names))
    if copy_from is not None:
        decided = _copy(context, _target(context, copy_from), target, names)
    return Predicted(context.user.name, target.name, made, decided)


def _target(context: ViewerContext, name: str) -> Target:
    found = context.locate(name)
    if not found.levels:
        raise SharingError(Code.CANNOT, f"{name} is a namespace and no mailbox")
    return context.target_of(found)


def _mailbox(context: ViewerContext, target: Target, names: Names) -> Iterator[Made]:
    path = files_of(context, target).path
    if os.path.isdir(path):
        yield from _in_existing(context, target, names)
        return
    who = context.who
    above = inode_of(os.path.realpath(nearest_directory(path)))
    creation = creation_as(context, target.found)
    root = target.namespace.location.path
    if not os.path.isdir(root):
        for step in _root_steps(context, target, above, names):
            yield step
            above = _as_made(step, who)
        creation = Creation.of_directory(_facts(above), egid=who.gid)
    for missing in _missing_levels(target):
        made = _directory("a level above it", above, str(missing), creation, who, names)
        yield made
        above = _as_made(made, who)
    if path != root:
        made = _directory("the mailbox's directory", above, str(path), creation, who, names)
        yield made
        above = _as_made(made, who)
    for folder in ("cur", "new", "tmp"):
        yield _directory(f"its {folder}/", above, str(path / folder), creation, who, names)
    yield _file("a message in it", above, creation, who, names)


def _in_existing(context: ViewerContext, target: Target, names: Names) -> Iterator[Made]:
    creation, who = creation_as(context, target.found), context.who
    path = files_of(context, target).path
    for folder, what in (("tmp", "a new message"), ("", "control files such as dovecot-uidlist")):
        if os.path.isdir(path / folder):
            place = inode_of(os.path.realpath(path / folder))
            made = _file(what, place, creation, who, names)
            yield _moved_on(made, path, who, names) if folder else made
    below = _target(context, target.name + target.namespace.separator + "New")
    new = files_of(context, below).path
    parent = inode_of(os.path.realpath(nearest_directory(new.parent)))
    what = f"a new mailbox {below.name}"
    yield _directory(what, parent, str(new), creation_as(context, below.found), who, names)


def _moved_on(made: Made, path: Path, who: Credentials, names: Names) -> Made:
    """A message that is made in tmp has to go to new or cur from there."""
    for folder in ("new", "cur") if made.made else ():
        if os.path.isdir(path / folder):
            answer = can_create(inode_of(os.path.realpath(path / folder)), who)
            if not answer:
                return replace(made, made=False, why=describe(answer, who, names.group))
    return made


def _missing_levels(target: Target) -> list[Path]:
    """Directories above the mailbox's own that are made with it; only the fs layout has such."""
    if target.namespace.naming.layout is not Layout.FS:
        return []
    storage, levels = target.storage, target.levels
    paths = [storage.mailbox_path(levels[:depth]) for depth in range(1, len(levels))]
    return [path for path in paths if not os.path.isdir(path)]


def _creation_then(context: ViewerContext, target: Target, names: Names) -> Creation:
    """What new messages of a mailbox get, once its mail root is there."""
    if os.path.isdir(target.namespace.location.path):
        return creation_as(context, target.found)
    above = inode_of(os.path.realpath(nearest_directory(target.namespace.location.path)))
    for step in _root_steps(context, target, above, names):
        above = _as_made(step, context.who)
    return Creation.of_directory(_facts(above), egid=context.user.gid)


def _root_steps(
    context: ViewerContext, target: Target, above: Inode, names: Names
) -> Iterator[Made]:
    """The missing mail root, and what is missing above it."""
    location = target.namespace.location
    plan = plan_missing_root(
        location.path_template.source, location.path, egid=context.user.gid, creation=DEFAULTS
    )
    parent = above
    for step in plan.steps:
        what = "the mail root" if step.path == str(location.path) else "a directory above it"
        made = _directory(what, parent, step.path, step.creation, context.who, names)
        yield made
        parent = _as_made(made, context.who)


def _as_made(made: Made, who: Credentials) -> Inode:
    """What the next step finds."""
    return Inode(made.path, stat.S_IFDIR | made.mode, who.uid, made.gid)


def _file(what: str, parent: Inode, creation: Creation, who: Credentials, names: Names) -> Made:
    return _made(
        what,
        parent.path,
        predict_file(parent, creation, who, rule=group_rule_at(parent)),
        creation,
        who,
        names,
    )


def _directory(
    what: str, parent: Inode, path: str, creation: Creation, who: Credentials, names: Names
) -> Made:
    predicted = predict_dir(parent, creation, who, rule=group_rule_at(parent))
    return _made(what, path or parent.path, predicted, creation, who, names)


def _made(
    what: str, path: str, found: Prediction, creation: Creation, who: Credentials, names: Names
) -> Made:
    why = remedy = refused = ""
    if not found.answer:
        why = describe(found.answer, who, names.group)
    elif found.refused_gid is not None:
        refused = _group(found.refused_gid, names)
        kept = "so it is kept with another group" if found.made else "so it is not made"
        why = f"uid {who.uid} is not in group {refused}, taken from {creation.origin}, {kept}"
        remedy = (
            f"chmod g+s {creation.origin}, so that the kernel hands the group down; or add group"
            f" {refused} to mail_access_groups"
        )
    return Made(
        what, path, found.made, found.mode, names.user(found.uid), _group(found.gid, names),
        creation.reason.value, creation.origin, refused, why, remedy, found.gid,
    )  # fmt: skip


def _group(gid: int, names: Names) -> str:
    name = names.group(gid)
    return name if name == str(gid) else f"{name}({gid})"


def _facts(inode: Inode) -> Facts:
    return Facts(inode.mode, inode.uid, inode.gid, inode.path)


def _copy(context: ViewerContext, source: Target, dest: Target, names: Names) -> Decided:
    """Whether COPY makes a hard link: the rule of the two mailboxes, then the kernel."""
    if not context.settings.maildir_copy_with_hardlinks:
        return Decided("copy", "maildir_copy_with_hardlinks is off")
    decision = link_decision(
        creation_as(context, source.found), _creation_then(context, dest, names)
    )
    if not decision:
        return Decided("copy", decision.reason)
    from_dir, to_dir = files_of(context, source).path, files_of(context, dest).path / "tmp"
    to_dir = nearest_directory(to_dir)
    world = World()
    for folder in ("cur", "new"):
        for path in file_kinds(str(from_dir / folder)):
            told = ask(Question(Verb.LINK, path, "link", str(to_dir)), context.who, world)
            if told.allowed:
                continue
            if told.obstacle:
                return Decided("copy", told.obstacle)
            if told.refusal is not None:
                why = describe(told.refusal, context.who)
                return Decided("copy", f"the kernel refuses the link: {why}")
            return Decided("copy", f"{told.missing} does not exist")
    return Decided("link", decision.reason)


def _rename(context: ViewerContext, source: Target, dest: Target) -> Decided:
    if dest.namespace is not source.namespace:
        return Decided("refused", f"{source.name} and {dest.name} are in different namespaces")
    if dest.exists:
        return Decided("refused", f"{dest.name} exists already")
    decision = rename_decision(
        creation_as(context, source.found), creation_as(context, dest.found),
        below_another=len(dest.levels) > 1,
    )  # fmt: skip
    if not decision:
        return Decided("refused", f"conflicting directory permissions: {decision.reason}")
    old, new = files_of(context, source).path, files_of(context, dest).path
    target = new if os.path.isdir(new.parent) else nearest_directory(new) / new.name
    told = ask(Question(Verb.RENAME, str(old), "rename", str(target)), context.who, World())
    if told.refusal is not None:
        return Decided("refused", describe(told.refusal, context.who))
    if not told.allowed:
        return Decided("refused", told.obstacle or f"{told.missing} does not exist")
    return Decided("renamed", decision.reason)
