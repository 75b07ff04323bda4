"""Why a viewer can or cannot see and open a mailbox: every layer asked, in order.

What `sharefs acl debug` prints.  For administrators: it names mailboxes, owners and paths that
the viewer himself is never told of.
"""

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass

from sharefs.account.context import Context, Target
from sharefs.account.opening import private_seen_dir
from sharefs.acl import Effect
from sharefs.errors import SharingError
from sharefs.names import flaw_of
from sharefs.namespaces.namespace import Found, Namespace
from sharefs.namespaces.templates import Owner
from sharefs.permissions.access import Want
from sharefs.permissions.acting import own_credentials
from sharefs.permissions.explain import explain_access
from sharefs.rights import LOOKUP, READ
from sharefs.sharing import list_cache
from sharefs.sharing.keys import keys_for
from sharefs.sharing.policy import who_text


class Verdict(enum.StrEnum):
    """What a step means for the viewer."""

    YES = "yes"
    NO = "no"  # this denies
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at."""

    verdict: Verdict
    text: str


def explain(context: Context, name: str) -> list[Step]:
    """Total: every name has an explanation."""
    found = context.namespaces.find(name)
    if found is None:
        return [Step(Verdict.NO, f"no namespace covers the name {name}")]
    steps = list(_namespace(found))
    if not _owner_is_known(context, found.namespace):
        return [*steps, Step(Verdict.NO, f"no user database knows {found.namespace.owner}")]
    flaw = flaw_of(found.levels, found.namespace.naming) if found.levels else None
    if flaw is not None:
        return [*steps, Step(Verdict.NO, f"the mailbox name {flaw}")]
    if not found.levels:
        return [*steps, Step(Verdict.NO, "this is the namespace itself, which holds no mail")]
    target = context.target_of(found)
    steps += _place(target)
    steps += _rights(context, target)
    steps += _listing(context, target)
    return steps


def _namespace(found: Found) -> Iterator[Step]:
    namespace = found.namespace
    owner = f", owned by {namespace.owner}" if namespace.owner else ""
    yield Step(
        Verdict.NOTE,
        f"{found.name} is {'/'.join(found.levels) or 'the root'} in the {namespace.type} namespace"
        f" {namespace.prefix!r}{owner}",
    )


def _owner_is_known(context: Context, namespace: Namespace) -> bool:
    """True also where the databases cannot be asked: then the next steps tell more."""
    if namespace.type != "shared" or namespace.owner is None:
        return True
    try:
        return context.homes.exists(namespace.owner)
    except SharingError:
        return True


def _place(target: Target) -> Iterator[Step]:
    path = target.storage.mailbox_path(target.levels)
    if target.exists:
        yield Step(Verdict.YES, f"its path is {path}")
    else:
        access = explain_access(own_credentials(), path, Want.READ | Want.SEARCH)
        yield Step(Verdict.NO, f"there is no mailbox at {path}, or none within reach")
        yield Step(Verdict.NOTE, access.text())
        if access.remedy():
            yield Step(Verdict.NOTE, f"remedy: {access.remedy()}")
        return
    if target.mailbox.true_owner is not None:
        owner = target.mailbox.true_owner or "nobody we know"
        yield Step(Verdict.NOTE, f"it is a symbolic link to a mailbox of {owner}")
    if private_seen_dir(target.namespace, target.levels) is not None:
        yield Step(Verdict.NOTE, "the \\Seen flag is each viewer's own")
    access = explain_access(own_credentials(), path / "cur", Want.READ | Want.SEARCH)
    if access.missing_path is None:
        verdict = Verdict.YES if access.allowed else Verdict.NO
        yield Step(verdict, f"file system: {access.text()}")
        if access.remedy():
            yield Step(Verdict.NOTE, f"remedy: {access.remedy()}")


def _rights(context: Context, target: Target) -> Iterator[Step]:
    viewer = who_text(context.viewer)
    file = context.policy.file_of(target.mailbox)
    yield Step(Verdict.NOTE, f"ACL file {file.path}: {file.condition.value}")
    for problem in file.problems:
        yield Step(Verdict.NOTE, str(problem))
    for reason in target.effective.reasons:
        counts = "" if reason.effect is not Effect.SKIPPED else " (does not count)"
        yield Step(Verdict.NOTE, f"{reason}{counts}")
    names = " ".join(target.rights.long_names())
    yield Step(Verdict.NOTE, f"{viewer} has the rights: {names or 'none'}")
    for right, name in ((LOOKUP, "lookup"), (READ, "read")):
        if not target.rights.covers(right):
            yield Step(Verdict.NO, f"{viewer} lacks the right {name}")


def _listing(context: Context, target: Target) -> Iterator[Step]:
    namespace = target.namespace
    if namespace.type == "shared":
        yield from _shared_listing(context, target)
    elif namespace.settings.list == "no":
        yield Step(Verdict.NO, f"namespace {namespace.prefix!r} has list = no")
    if target.exists and target.rights.covers(LOOKUP):
        yield Step(Verdict.YES, "it may be seen in LIST, as far as the ACL is concerned")


def _shared_listing(context: Context, target: Target) -> Iterator[Step]:
    namespace = target.namespace
    if namespace.settings.list == "no":
        yield Step(Verdict.NO, f"namespace {namespace.prefix!r} has list = no")
    cache = namespace.location.control_dir / list_cache.FILE_NAME
    lines = list_cache.read_list(cache)
    stored = namespace.stored_name(target.levels)
    if lines is None and os.path.lexists(cache):
        yield Step(Verdict.NOTE, f"the list cache {cache} may not be read; it can be done without")
    elif lines is None:
        yield Step(Verdict.NOTE, f"there is no list cache {cache}, or none within reach")
    elif all(line.name != stored for line in lines):
        yield Step(
            Verdict.NOTE,
            f"the list cache does not name it; `sharefs acl recalc -u {namespace.owner}` renews it",
        )
    owner = namespace.owner or ""
    if context.share_map is None:
        yield Step(Verdict.NO, "there is no sharing map, so nothing shared is listed")
        return
    keys = keys_for(context.policy.acl_viewer(context.viewer, target.mailbox))
    try:
        matching = sorted(keys & context.share_map.shares_of(owner))
    except SharingError as refusal:
        yield Step(Verdict.NO, f"the sharing map: {refusal.detail}")
        return
    if matching:
        yield Step(Verdict.YES, f"the sharing map says that {owner} shares with {matching[0]}")
    else:
        yield Step(
            Verdict.NO,
            f"the sharing map does not say that {owner} shares anything with"
            f" {who_text(context.viewer)}; `sharefs map rebuild -u {owner}` renews it",
        )
    yield from _fits(context, Owner(owner))


def _fits(context: Context, owner: Owner) -> Iterator[Step]:
    domain = context.namespaces.viewer.domain
    for space in context.namespaces.shared:
        if not space.template.fits(owner, viewer_domain=domain):
            yield Step(
                Verdict.NO,
                f"{owner.user} cannot be named by the prefix {space.template.text!r} for a viewer"
                f" of domain {domain or '(none)'}",
            )
