"""Reads the file system for the rules in inherit and roots: which directory permissions come from.

Only stat(2), never a change.  A directory that may not be looked at is explained in the log and
then treated as absent, as a mailbox operation would otherwise fail for want of a default.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sharefs.permissions.explain import explain_refusal
from sharefs.permissions.inherit import DEFAULTS, Creation, Facts, of_dictionary
from sharefs.permissions.roots import RootPlan, classify_root, plan_root

log = logging.getLogger(__name__)

Source = Literal["root", "parent"]


def facts_of(path: Path | str, *, dir_fd: int | None = None) -> Facts | None:
    """What stat(2) says, symbolic links followed.  None: nothing is there."""
    try:
        status = os.stat(path, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Facts(status.st_mode, status.st_uid, status.st_gid, os.fspath(path))


def creation_for_mailbox(
    root: Path, mailbox_dirs: Sequence[Path], *, source: Source, egid: int
) -> Creation:
    """What is made in a mailbox, or for a mailbox that does not exist yet.

    mailbox_dirs: the mailbox's own directory (or mbox file), then its ancestors' upwards, without
    the root; () for what belongs to the root itself.  If the mailbox exists, its own permissions
    decide.  If not: source "root" takes the mailbox root's (the rule of the documentation), source
    "parent" the nearest existing ancestor's (what Dovecot has done since 2011), then the root's.
    """
    candidates = [*mailbox_dirs[: 1 if source == "root" else None], root]
    for path in candidates:
        try:
            facts = facts_of(path)
        except PermissionError:
            log.error("permissions of %s cannot be read: %s", path, explain_refusal(path))
            continue
        if facts is not None:
            return creation_like(facts, egid=egid)
    return DEFAULTS


def creation_like(facts: Facts, *, egid: int) -> Creation:
    """of_directory or of_file, whichever the path is."""
    if facts.is_directory:
        return Creation.of_directory(facts, egid=egid)
    try:
        parent = facts_of(Path(facts.path).parent)
    except PermissionError:
        parent = None
    return Creation.of_file(facts, parent=parent, egid=egid)


def creation_for_dictionary(path: Path) -> Creation:
    """What the next version of a dictionary file gets."""
    existing = facts_of(path)
    parent = facts_of(path.parent)
    if parent is None:
        parent, _ = _first_existing(path.parent)
    return of_dictionary(parent, existing)


def plan_missing_root(
    template: str, root: Path, *, egid: int, creation: Creation = DEFAULTS
) -> RootPlan:
    """The plan for sharefs.fsops.make_root().  No steps if the root exists.

    template: mail_path as configured, variables unexpanded.  Raises NotADirectoryError if the
    root, or something above it, is a file.
    """
    classified = classify_root(template, str(root))
    ancestor, missing = _first_existing(root)
    if not ancestor.is_directory:
        raise NotADirectoryError(f"{ancestor.path} is a file, so {root} cannot be a mail root")
    return plan_root(classified, ancestor, [str(path) for path in missing], creation, egid=egid)


def _first_existing(path: Path) -> tuple[Facts, list[Path]]:
    """The nearest existing path at or above, and what is missing below it, top first."""
    path = Path(os.path.abspath(path))
    missing: list[Path] = []
    while (facts := _facts_or_file(path)) is None:
        missing.insert(0, path)
        path = path.parent
    return facts, missing


def _facts_or_file(path: Path) -> Facts | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Facts(status.st_mode, status.st_uid, status.st_gid, str(path))
