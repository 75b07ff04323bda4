"""Symlink shares: mailboxes of others, linked into a user's own tree.

`ln -s /home/user2/Maildir/.Work /home/user1/Maildir/.shared.user2`, and with Maildir++ one more
link for every mailbox below.  The ACL of the true owner applies to who linked it
(sharing.policy.true_owner); other servers may take the linker for the owner.

Planning is pure; looking and doing are done by the process of the user whose tree it is.
"""

import contextlib
import enum
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.names import Layout
from sharefs.permissions.inherit import Creation

_SKIPPED: Final = frozenset({"cur", "new", "tmp"})
MAX_DEPTH: Final = 64  # levels of an fs layout that are searched for links


class State(enum.StrEnum):
    """How a link in a mail tree is doing."""

    GOOD = "good"
    DANGLING = "dangling"  # what it leads to is gone
    LOOP = "loop"
    CLOSED = "closed"  # the kernel lets the user not look there
    NO_MAILBOX = "no mailbox"  # a file, or a directory without cur
    INSIDE = "inside"  # leads into the user's own tree: no share


@dataclass(frozen=True, slots=True)
class ShareLink:
    """A link that is there.  stored: its name below the root.  target: as the link says it.

    real: where it ends, "" if nowhere.  owner_uid: of the directory there, None if out of reach.
    """

    stored: str
    target: str
    state: State
    real: str = ""
    owner_uid: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A link to make.  stored: its name below the root."""

    stored: str
    target: str


# --- planning, pure ----------------------------------------------------------------------------


def wanted_links(
    top: str, sources: Mapping[tuple[str, ...], str], layout: Layout
) -> tuple[Wanted, ...]:
    """The links that bring a mailbox, and what is below it, under a name.

    top: the stored name of the first link.  sources: levels below the mailbox -> directory; () is
    the mailbox itself.  In the fs layout a link brings all that is below.
    """
    if layout is Layout.FS:
        return (Wanted(top, sources[()]),)
    return tuple(Wanted(".".join((top, *levels)), path) for levels, path in sorted(sources.items()))


def missing_children(
    link: ShareLink,
    names: Iterable[str],
    present: frozenset[str],
    is_shown: Callable[[Path], bool],
) -> list[Wanted]:
    """Links that a linked Maildir++ mailbox lacks for the mailboxes below it.

    names: of the directories beside the link's end.  present: stored names taken in the tree.
    is_shown: whether the ACL of the mailbox there shows it to the linker.  Others get no link,
    since Dovecot takes whoever has one for the owner.
    """
    directory, own = os.path.split(link.real)
    found = []
    for name in sorted(names):
        if not name.startswith(own + ".") or not own.startswith("."):
            continue
        stored = link.stored + name[len(own) :]
        if stored not in present and is_shown(Path(directory, name)):
            found.append(Wanted(stored, os.path.join(directory, name)))
    return found


# --- looking -----------------------------------------------------------------------------------


def links_in(root: Path, layout: Layout) -> Iterator[ShareLink]:
    """Every symbolic link that stands for a mailbox in a mail tree.  Raises OSError for the root.

    Directories below the root that cannot be read are passed over.
    """
    yield from _links_below(root, "", layout, 0)


def _links_below(root: Path, prefix: str, layout: Layout, depth: int) -> Iterator[ShareLink]:
    with os.scandir(root / prefix) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = entry.name
        if layout is Layout.MAILDIRPP and (not name.startswith(".") or name in (".", "..")):
            continue
        stored = f"{prefix}/{name}" if prefix else name
        if entry.is_symlink():
            link = look(root, stored)
            # Linked files are the business of whoever put them there (a Sieve script, say).
            if link is not None and not (link.real and os.path.isfile(link.real)):
                yield link
        elif (
            layout is Layout.FS
            and name not in _SKIPPED
            and depth < MAX_DEPTH
            and entry.is_dir(follow_symlinks=False)
        ):
            with contextlib.suppress(OSError):
                yield from _links_below(root, stored, layout, depth + 1)


def look(root: Path, stored: str) -> ShareLink | None:
    """One link; None if there is none of that name."""
    path = root / stored
    try:
        target = os.readlink(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL, errno.ENOTDIR):
            return None
        raise
    real = os.path.realpath(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ShareLink(stored, target, State.DANGLING)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return ShareLink(stored, target, State.LOOP)
        if error.errno == errno.ENOTDIR:
            return ShareLink(stored, target, State.DANGLING)
        return ShareLink(stored, target, State.CLOSED, real)
    own = os.path.realpath(root)
    inside = real == own or real.startswith(own + os.sep)
    state = State.INSIDE if inside else _state_of(real)
    return ShareLink(stored, target, state, real, status.st_uid)


def _state_of(real: str) -> State:
    try:
        with os.scandir(os.path.join(real, "cur")):
            return State.GOOD
    except PermissionError:
        return State.CLOSED
    except OSError:
        return State.GOOD if _has_mailboxes(real) else State.NO_MAILBOX


def _has_mailboxes(real: str) -> bool:
    """A linked directory of an fs layout holds mailboxes and need not be one."""
    with contextlib.suppress(OSError), os.scandir(real) as entries:
        return any(entry.is_dir() for entry in entries)
    return False


def names_beside(link: ShareLink) -> list[str] | None:
    """Directories beside a link's end; None if the user may not list them."""
    try:
        with os.scandir(os.path.dirname(link.real)) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return None


# --- doing -------------------------------------------------------------------------------------


def make_link(root: Path, wanted: Wanted, creation: Creation) -> bool:
    """Make one link; False if exactly that link is there already.

    creation: of directories on the way, in the fs layout.  Raises SharingError(ALREADY_EXISTS) if
    something else has the name, (CANNOT) for a link into the user's own tree.
    """
    own = os.path.realpath(root)
    real = os.path.realpath(wanted.target)
    if real == own or real.startswith(own + os.sep):
        raise SharingError(
            Code.CANNOT, f"{wanted.target} is in the user's own tree: there is nothing to share"
        )
    path = root / wanted.stored
    if path.parent != root:
        fsops.make_dirs(path.parent, creation)
    try:
        fsops.symlink(wanted.target, path)
    except FileExistsError:
        present = look(root, wanted.stored)
        if present is not None and present.target == wanted.target:
            return False
        raise SharingError(Code.ALREADY_EXISTS, f"{path} is there already") from None
    return True


def remove_link(root: Path, stored: str) -> None:
    """Remove one link, and nothing that is not a link.  Raises SharingError(NONEXISTENT)."""
    if look(root, stored) is None:
        raise SharingError(Code.NONEXISTENT, f"{root / stored} is no symbolic link")
    fsops.unlink(root / stored)
