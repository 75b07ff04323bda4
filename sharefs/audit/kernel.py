"""The kernel's layers: one line for each component of a path, and what has to change.

Only reads.  When something denies, the change that lifts it is made on paper (World) and the
questions are put again, until they are all answered with yes: so the changes that are printed
are known to suffice.
"""

import contextlib
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sharefs.audit.layers import Change, Kind, Layer, Verdict
from sharefs.audit.mounts import mount_of
from sharefs.audit.names import Names
from sharefs.audit.questions import Question, Told, World, ask
from sharefs.permissions.access import Answer, Class, Credentials, Inode, Want, check, held
from sharefs.permissions.explain import describe
from sharefs.permissions.remedy import PERMISSION_CLASSES, Remedy, remedy_of

MAX_CHANGES: Final = 40  # more refusals than a path has components mean that nothing helps
MAX_NAMED: Final = 5  # people named one by one in one line

People = Sequence[tuple[str, Credentials]]


@dataclass(frozen=True, slots=True)
class KernelAnswer:
    """layers: in the order of asking, each component once.  changes, complete: see Explained."""

    layers: tuple[Layer, ...]
    changes: tuple[Change, ...] = ()
    complete: bool = True
    allowed: bool = True


def ask_kernel(
    questions: Sequence[Question],
    who: Credentials,
    *,
    names: Names,
    people: People = (),
    world: World | None = None,
    home: str = "",
) -> KernelAnswer:
    """Put all questions, and find out what has to change if one is answered with no.

    people: everybody whose access is compared before and after a change.  home: a mail root of
    who's own; what belongs to others there is given back, which makes the rest good as well.
    """
    world = world or World()
    told = [ask(question, who, world) for question in questions]
    layers = tuple(_layers(told, names, world))
    changes: list[Change] = []
    complete = all(one.allowed for one in told)
    allowed = complete
    viewer = who
    while not complete and len(changes) < MAX_CHANGES:
        refused = next(one for one in told if not one.allowed)
        answer = refused.refusal
        if answer is not None and answer.inode.read_only:
            # Nothing there can be changed before that.
            answer = Answer(answer.inode, Class.READ_ONLY, Want.WRITE)
        remedy = None if answer is None else _remedy(answer, viewer, home)
        if remedy is not None and answer is not None and _is_held_against(answer, remedy):
            answer = held(answer.inode)
            remedy = remedy_of(answer, viewer)
        if answer is None or remedy is None:
            break
        command = _remount(answer.inode, world) if remedy.remount else remedy.command
        changes.append(Change(command, tuple(opened(answer, remedy, who, people, names))))
        viewer = remedy.applied_to(viewer)
        world = world.with_change(remedy.after, remounted=remedy.remount)
        told = [ask(question, viewer, world) for question in questions]
        complete = all(one.allowed for one in told)
    return KernelAnswer(layers, tuple(changes), complete, allowed)


def _remedy(answer: Answer, who: Credentials, home: str) -> Remedy | None:
    inode = answer.inode
    inside = home and (inode.path == home or inode.path.startswith(f"{home}/"))
    if inside and inode.uid != who.uid and answer.decided_by in PERMISSION_CLASSES:
        command = f"chown -h {who.uid} {shlex.quote(inode.path)}"
        return Remedy(command, replace(inode, uid=who.uid))
    return remedy_of(answer, who)


def _is_held_against(answer: Answer, remedy: Remedy) -> bool:
    """Whether chattr(1) keeps an inode from a change, which needs another one first."""
    by_flag = answer.decided_by in (Class.IMMUTABLE, Class.APPEND_ONLY)
    elsewhere = remedy.remount or remedy.after == answer.inode
    return answer.inode.is_held and not by_flag and not elsewhere


def _remount(inode: Inode, world: World) -> str:
    mount = mount_of(inode.path, world.mounts)
    if mount is None:
        return f"mount the file system of {inode.path} writable"
    if mount.kind == "btrfs" and not mount.read_only:
        return f"btrfs property set -ts {shlex.quote(_subvolume_of(inode.path))} ro false"
    options = "remount,bind,rw" if mount.read_only_bind else "remount,rw"
    return f"mount -o {options} {shlex.quote(mount.point)}"


def _subvolume_of(path: str) -> str:
    """The topmost directory above with the same st_dev."""
    with contextlib.suppress(OSError):
        device = os.stat(path).st_dev
        while path != "/" and os.stat(os.path.dirname(path)).st_dev == device:
            path = os.path.dirname(path)
    return path


def _layers(told: Iterable[Told], names: Names, world: World) -> Iterator[Layer]:
    seen: set[tuple[str, int, Class, bool]] = set()
    mounts: set[str] = set()
    for one in told:
        purpose = f"to {one.question.purpose}"
        for answer in one.steps:
            key = (answer.inode.path, int(answer.want), answer.decided_by, bool(answer))
            if key in seen:
                continue
            seen.add(key)
            yield from _mount(answer, world, mounts)
            yield path_layer(answer, names, purpose)
        if one.missing is not None:
            yield Layer(Kind.PATH, Verdict.NO, one.missing, f"{_absence(one.missing)} ({purpose})")
        if one.obstacle:
            yield Layer(Kind.PATH, Verdict.NO, one.question.path, f"{one.obstacle} ({purpose})")


def _absence(path: str) -> str:
    """Who is not the superuser may ask about more than this process can see."""
    try:
        os.lstat(path)
    except PermissionError:
        return "cannot be looked at by this command; run it as root"
    except OSError:
        pass
    return "does not exist"


def _mount(answer: Answer, world: World, seen: set[str]) -> Iterator[Layer]:
    mount = mount_of(answer.inode.path, world.mounts)
    if mount is None or mount.point in seen:
        return
    seen.add(mount.point)
    denies = answer.decided_by is Class.READ_ONLY and not answer
    verdict = Verdict.NO if denies else Verdict.YES
    if mount.is_network:
        verdict = verdict if denies else Verdict.NOTE
    text = mount.describe()
    if mount.is_network:
        text += "; its server has a say in this that cannot be seen from here"
    yield Layer(Kind.MOUNT, verdict, mount.point, text)


def path_layer(answer: Answer, names: Names, purpose: str) -> Layer:
    """`drwxr-x--x alice:mail, group: rx` of one component."""
    inode = answer.inode
    facts = f"{stat.filemode(inode.mode)} {names.user(inode.uid)}:{names.group(inode.gid)}"
    if inode.acl is not None:
        facts += " + POSIX ACL"
    if answer:
        wanted = answer.want.letters()
        by = f"{answer.decided_by.value}" + (f" {wanted}" if wanted else "")
        if answer.entry is not None:
            by += f" by {answer.entry}"
        return Layer(Kind.PATH, Verdict.YES, inode.path, f"{facts}, {by}")
    who = Credentials(-1, -1)
    why = describe(answer, who, names.group).removeprefix(inode.path).lstrip(" ")
    why = why.partition(" (mode ")[0]
    if answer.decided_by is Class.OTHER and inode.mode >> 3 & answer.missing == answer.missing:
        why += f"; group {names.group(inode.gid)} has it, but the process is not in that group"
    return Layer(Kind.PATH, Verdict.NO, inode.path, f"{facts}, {why} ({purpose})")


def opened(
    answer: Answer, remedy: Remedy, who: Credentials, people: People, names: Names
) -> Iterator[str]:
    """What a change allows besides what was asked for."""
    inode, after = answer.inode, remedy.after
    if remedy.join is not None:
        group = names.group(remedy.join)
        yield f"everything else on this host that group {group} may use"
        return
    if remedy.remount:
        yield "everybody may again write there who could before it was mounted read-only"
        return
    if answer.decided_by in (Class.IMMUTABLE, Class.APPEND_ONLY):
        yield "everybody may change it again whom its permissions allow to"
        return
    if answer.decided_by is Class.STICKY:
        yield f"whoever may write to {inode.path} may then remove and rename others' files there"
        return
    if answer.decided_by is Class.OWNERSHIP:
        yield f"{names.user(who.uid)} may then change every permission of {inode.path}"
        return
    if after.uid != inode.uid:
        yield f"{names.user(after.uid)} owns it then, and {names.user(inode.uid)} no longer does"
        return
    if after.mode & 0o007 & ~inode.mode:
        yield "everybody on this host gains the same"
        return
    gained = [
        (name, bits)
        for name, other in people
        if other.uid != who.uid and (bits := _bits(after, other) & ~_bits(inode, other))
    ]
    if gained:
        named = ", ".join(f"{name} ({Want(bits).letters()})" for name, bits in gained[:MAX_NAMED])
        more = f" and {len(gained) - MAX_NAMED} more" if len(gained) > MAX_NAMED else ""
        yield f"on {inode.path} also: {named}{more}"
    if (widened := after.mode & 0o070 & ~inode.mode) and after.acl is None:
        letters = Want(widened >> 3).letters()
        yield f"every member of group {names.group(inode.gid)} gains {letters} on {inode.path}"
    if not gained and not widened:
        yield f"nothing else: only uid {who.uid} gains by it"


def _bits(inode: Inode, who: Credentials) -> int:
    return sum(bit for bit in Want if check(inode, who, bit))
