"""How a missing mail root is made: the /domain/user case and the home case.  Pure.

Seed sections "Permissions to New /domain/user Directories" and "... New User Home Directories".
What decides is the path as the administrator wrote it, with its variables still in it, because
that says how far down the permissions of a shared directory may be copied.
"""

import enum
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sharefs.permissions.inherit import Creation, Facts, GidReason

# %{name}, %{name | filter}, %%, and the single letters of old configuration (%d, %2n, %Lu).
_VARIABLE: Final = re.compile(r"%\{[^}]*\}|%-?\d*\.?\d*[A-Z]*[a-z]|%")
_HOME: Final = re.compile(r"%\{\s*home\s*\}|%h")


class RootCase(enum.Enum):
    """What a template says about where copied permissions end."""

    TEMPLATE = "template"  # a shared part above the last variable: /var/vmail/%{domain}/%{user}
    HOME = "home"  # ~/Maildir: everything is the user's own
    NOTHING = "nothing"  # no variable, or an expansion that cannot be matched: nothing is copied


@dataclass(frozen=True, slots=True)
class RootTemplate:
    """case, and the directory down to which permissions of the first existing ancestor count.

    prefix: for TEMPLATE the part of the expanded path above the component that holds the last
    variable; for HOME the whole expanded path; "" for NOTHING.
    """

    case: RootCase
    prefix: str
    reason: str


def classify_root(template: str, expanded: str) -> RootTemplate:
    """Which rule a mail path falls under.

    template: mail_path as configured.  expanded: the same path for one user, absolute.
    """
    variables = list(_VARIABLE.finditer(template))
    if template.startswith("~") and not variables:
        return RootTemplate(RootCase.HOME, expanded, "the path begins at the home directory")
    if not variables:
        return RootTemplate(RootCase.NOTHING, "", "the path has no variable")
    if len(variables) == 1 and variables[0].start() == 0 and _HOME.fullmatch(variables[0][0]):
        return RootTemplate(RootCase.HOME, expanded, "the path begins at the home directory")
    # Slashes inside %{...} are filter arguments, not levels.
    last = variables[-1].start()
    flat = _VARIABLE.sub(lambda found: "v" * len(found[0]), template)
    levels = flat[:last].count("/")
    if flat.rstrip("/").count("/") != expanded.rstrip("/").count("/"):
        return RootTemplate(RootCase.NOTHING, "", "a variable added a directory level")
    prefix = "/".join(expanded.split("/")[:levels])
    if not prefix:
        return RootTemplate(RootCase.NOTHING, "", "the last variable is in the first component")
    return RootTemplate(RootCase.TEMPLATE, prefix, f"permissions are copied down to {prefix}")


@dataclass(frozen=True, slots=True)
class DirStep:
    """One directory to make, and what it gets."""

    path: str
    creation: Creation


@dataclass(frozen=True, slots=True)
class RootPlan:
    """The directories to make, top first; and what new mailboxes in the new root then copy.

    reason: which rule applied, for logs and `sharefs mailbox permissions`.
    """

    steps: tuple[DirStep, ...]
    creation: Creation
    reason: str


def plan_root(
    template: RootTemplate,
    ancestor: Facts,
    missing: Sequence[str],
    creation: Creation,
    *,
    egid: int,
) -> RootPlan:
    """Decide what each missing directory on the way to a mail root gets.

    ancestor: the first existing directory above.  missing: the absolute paths to make, top first,
    the root itself last.  creation: what the root gets when no rule applies (DEFAULTS).
    """
    own = creation
    shared: list[DirStep] = []
    reason = template.reason
    if template.case is RootCase.NOTHING or not ancestor.setgid:
        if template.case is not RootCase.NOTHING:
            reason = f"{ancestor.path} has no setgid bit, so nothing is copied from it"
    elif template.case is RootCase.HOME:
        own = _copied(ancestor, GidReason.PARENT)
        reason = f"home below {ancestor.path}, which has setgid: its permissions are copied"
    else:
        below = _copied(ancestor, GidReason.SETGID)
        shared = [
            DirStep(path, below) for path in missing if _is_at_or_above(path, template.prefix)
        ]
        reason = f"permissions of {ancestor.path} are copied down to {template.prefix}"
        if creation.gid is None and not creation.dir_mode & stat.S_ISGID:
            own = _own_group(creation, egid)
    rest = [DirStep(path, own) for path in missing[len(shared) :]]
    return RootPlan((*shared, *rest), own, reason)


def _copied(ancestor: Facts, reason: GidReason) -> Creation:
    """All bits of a setgid directory, whose group the kernel hands down."""
    return Creation(
        file_mode=ancestor.mode & 0o666,
        dir_mode=stat.S_IMODE(ancestor.mode),
        gid=None,
        reason=reason,
        origin=ancestor.path,
        owner_uid=ancestor.uid,
        owner_gid=ancestor.gid,
        group=ancestor.gid,
    )


def _own_group(creation: Creation, egid: int) -> Creation:
    """A user's directory in a shared one: back to the user's group, setgid to keep it so."""
    return Creation(
        file_mode=creation.file_mode,
        dir_mode=creation.dir_mode | stat.S_ISGID,
        gid=egid,
        reason=GidReason.EGID,
        origin="egid",
        owner_uid=creation.owner_uid,
        owner_gid=creation.owner_gid,
    )


def _is_at_or_above(path: str, prefix: str) -> bool:
    return prefix == path or prefix.startswith(path.rstrip("/") + "/")
