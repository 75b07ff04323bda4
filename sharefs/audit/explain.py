"""`sharefs explain`: may this user do this to that mailbox, or path, and what decides it?

Only reads.  Walks namespace, sharing map, list cache, ACL lines, process groups, mounts and every
component of the paths, each asked with the functions that the doors ask.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sharefs.account.changes import parent_of
from sharefs.account.context import Target
from sharefs.acl import Effect
from sharefs.audit.acl_change import acl_remedy, configured_change
from sharefs.audit.kernel import People, ask_kernel
from sharefs.audit.layers import Change, Explained, Kind, Layer, Verdict
from sharefs.audit.mounts import group_rule_at
from sharefs.audit.names import Names
from sharefs.audit.operations import (
    RIGHTS,
    Operation,
    nearest_directory,
    questions_for,
    questions_for_path,
)
from sharefs.audit.places import acl_questions, creation_as, files_of, map_questions
from sharefs.audit.questions import Question
from sharefs.audit.viewing import ViewerContext, credentials_of
from sharefs.audit.visibility import listing_layers
from sharefs.config import Form
from sharefs.errors import Code, SharingError
from sharefs.identity.model import MailUser
from sharefs.names import flaw_of
from sharefs.namespaces.namespace import Found
from sharefs.namespaces.resolve import NOWHERE
from sharefs.permissions.explain import inode_of
from sharefs.permissions.inherit import rename_decision
from sharefs.permissions.predict import predict_dir
from sharefs.rights import CREATE, NONE, READ, Rights
from sharefs.sharing.files import Condition
from sharefs.sharing.policy import who_text
from sharefs.store.interface import Existence


@dataclass(frozen=True, slots=True)
class Asked:
    """operation on target; other: the second mailbox or path of copy-from and rename-to."""

    operation: Operation
    target: str
    other: str = ""

    @property
    def words(self) -> str:
        return f"{self.operation} {self.other}" if self.other else str(self.operation)


def explain_path(user: MailUser, asked: Asked, *, names: Names, people: People = ()) -> Explained:
    """A bare path: only the kernel has a say."""
    questions = list(questions_for_path(asked.operation, asked.target, asked.other))
    answer = ask_kernel(questions, credentials_of(user), names=names, people=people)
    layers = (*group_layers(user), *answer.layers)
    return Explained(user.name, asked.words, asked.target, layers, answer.changes, answer.complete)


def explain_mailbox(
    context: ViewerContext, asked: Asked, *, names: Names, people: People = ()
) -> Explained:
    """Total: every name has an explanation."""
    layers: list[Layer] = []
    changes: list[Change] = []
    complete = True
    target = _target(context, asked.target, layers)
    other: Target | None = None
    if target is not None and asked.other:
        other = _target(context, asked.other, layers)
    if target is None or (asked.other and other is None):
        return Explained(context.user.name, asked.words, asked.target, tuple(layers), (), False)
    there_is_none = False
    for named in (target, other):
        if named is not None and _must_exist(asked.operation, named, first=named is target):
            layers += (absences := list(_absent(named)))
            there_is_none = there_is_none or bool(absences)
    if asked.operation is Operation.LIST:
        layers += listing_layers(context, target)
        # What a change of the ACL or a rebuild mends along the way.
        derived = (Kind.MAP, Kind.CACHE)
        complete = all(layer.verdict is not Verdict.NO or layer.kind in derived for layer in layers)
    mendings: list[Change] = []
    files: list[Question] = []  # which the viewer must be able to read for a right answer
    if asked.operation is Operation.LIST and target.namespace.type == "shared":
        files += map_questions(context)
    for judged, needed in _judged(context, asked.operation, target, other):
        layers += acl_layers(context, judged, needed)
        files += acl_questions(judged)
        # Once the file can be read, rights may come from it.
        missing = needed - context.unhindered.rights_of(context.viewer, judged.mailbox).rights
        if missing and (mending := _mending(context, judged)):
            mendings.append(mending)
        elif missing and not there_is_none:
            change = _acl_change(context, judged, missing)
            complete = complete and change is not None
            changes += [change] if change else []
    if not changes and not there_is_none and (change := _derived_change(context, target, layers)):
        changes.append(change)
    if layer := _rule(context, asked.operation, target, other):
        layers.append(layer)
        complete = complete and layer.verdict is not Verdict.NO
    view = _view_for(context, target)
    if view:
        layers.append(_view_layer(view))
    layers += group_layers(context.user)
    files += kernel_questions(context, asked.operation, target, other)
    own = target.namespace.type == "private" and target.mailbox.true_owner is None
    home = os.path.realpath(target.namespace.location.path) if own else ""
    answer = ask_kernel(files, context.who, names=names, people=people, home=home)
    if view and not answer.allowed:  # nothing is opened beside it
        change = Change(f"go through {view}, where the ACL alone decides", ("nothing",))
        answer = replace(answer, changes=(change,), complete=True)
    if mendings:  # what those files grant is known only then; the rest might open for nothing
        return Explained(
            context.user.name, asked.words, target.name, (*layers, *answer.layers),
            tuple(dict.fromkeys(mendings)), complete=False,
        )  # fmt: skip
    return Explained(
        context.user.name, asked.words, target.name, (*layers, *answer.layers),
        (*changes, *answer.changes), complete and answer.complete and not there_is_none,
    )  # fmt: skip


# --- which mailboxes ------------------------------------------------------------------------


def _target(context: ViewerContext, name: str, layers: list[Layer]) -> Target | None:
    """The mailbox of a name, and the layer that says how it was found."""
    found = context.namespaces.find(name)
    if found is None:
        text = f"no namespace covers the name {name}"
        layers.append(Layer(Kind.NAMESPACE, Verdict.NO, "", text))
        return None
    namespace = found.namespace
    flaw = flaw_of(found.levels, namespace.naming) if found.levels else None
    owner = f", owned by {namespace.owner}" if namespace.owner else ""
    text = (
        f"{found.name} is {'/'.join(found.levels) or 'the root'} in the {namespace.type} namespace"
        f" {namespace.prefix!r}{owner}"
    )
    if flaw is not None:
        layers.append(Layer(Kind.NAMESPACE, Verdict.NO, "", f"{text}; the mailbox name {flaw}"))
        return None
    if not found.levels:
        text += ": the namespace itself, which holds no mail"
        layers.append(Layer(Kind.NAMESPACE, Verdict.NO, "", text))
        return None
    layers.append(Layer(Kind.NAMESPACE, Verdict.YES, "", text))
    target = context.target_of(found)
    if target.mailbox.true_owner is not None:
        text = (
            f"it is a symbolic link to a mailbox of {target.mailbox.true_owner or 'nobody known'}"
        )
        place = str(target.storage.mailbox_path(target.levels))
        layers.append(Layer(Kind.NAMESPACE, Verdict.NOTE, place, text))
    return target


def _must_exist(operation: Operation, target: Target, *, first: bool) -> bool:
    """Whether an operation is about what is there.  An MDA makes the mailbox it delivers to."""
    if target.exists or target.existence is Existence.NO_SELECT:
        return False
    makes = (Operation.CREATE, Operation.DELIVER) if first else (Operation.RENAME_TO,)
    return operation not in makes


def _absent(target: Target) -> Iterator[Layer]:
    """That a mailbox is not there, if that much can be seen."""
    path = target.storage.mailbox_path(target.levels)
    owner = target.namespace.owner
    if target.namespace.type == "shared" and str(path).startswith(f"{NOWHERE}/"):
        yield Layer(Kind.NAMESPACE, Verdict.NO, "", f"no user database knows the owner {owner}")
        return
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        yield Layer(Kind.NAMESPACE, Verdict.NO, str(path), f"there is no mailbox {target.name}")
    except OSError:
        pass  # the kernel's layers say why it cannot be seen


def _judged(
    context: ViewerContext, operation: Operation, target: Target, other: Target | None
) -> Iterator[tuple[Target, Rights]]:
    """Whose ACL is asked for which rights."""
    needed = RIGHTS[operation]
    match operation:
        case Operation.CREATE:
            yield _parent(context, target), needed
        case Operation.DELETE if _is_own_link(target):
            return  # one's own link goes without asking anybody
        case Operation.RENAME_TO if other is not None:
            yield target, needed
            yield _parent(context, other), CREATE
        case Operation.COPY_FROM if other is not None:
            yield other, READ
            yield target, needed
        case _ if needed:
            yield target, needed
        case _:
            return


def _parent(context: ViewerContext, target: Target) -> Target:
    """The mailbox whose k right counts, or the namespace itself with its default ACL."""
    found = parent_of(context, target.found)
    mailbox = context.acl_mailbox(found)
    answer = context.policy.answer(context.viewer, mailbox)
    return Target(found, mailbox, answer, context.existence(found))


def _is_own_link(target: Target) -> bool:
    path = target.storage.mailbox_path(target.levels)
    return target.mailbox.true_owner is not None and os.path.islink(path)


def kernel_questions(
    context: ViewerContext, operation: Operation, target: Target, other: Target | None = None
) -> Iterable[Question]:
    """What the kernel must allow; nothing of a mailbox that will be made when it is needed."""
    second = None if other is None else files_of(context, other)
    return questions_for(operation, files_of(context, target), other=second)


def _view_for(context: ViewerContext, target: Target) -> str:
    """The mount point that serves the mailbox to this viewer; "" if none does, or it is his own."""
    own = context.policy.acl_viewer(context.viewer, target.mailbox).is_owner
    return "" if own else context.settings.sharefs_mount_point


def _view_layer(point: str) -> Layer:
    text = (
        "serves what is shared, and there the ACL alone decides; below stands what the kernel says"
        " to programs that go round it"
    )
    return Layer(Kind.MOUNT, Verdict.NOTE, point, text)


# --- layers ---------------------------------------------------------------------------------


def group_layers(user: MailUser) -> Iterator[Layer]:
    """The groups of the user's mail process, each with where it comes from."""
    uid = f"uid {user.uid}"
    yield Layer(Kind.GROUPS, Verdict.YES, "", f"{uid} (from {user.origins.get('uid', 'a userdb')})")
    for group in user.groups:
        yield Layer(Kind.GROUPS, Verdict.YES, "", f"group {group} (from {group.origin})")


def acl_layers(context: ViewerContext, target: Target, needed: Rights) -> Iterator[Layer]:
    """Every line that had a say, and the outcome."""
    file = context.policy.file_of(target.mailbox)
    if target.mailbox.acl_dir is not None:
        yield Layer(Kind.ACL, Verdict.NOTE, str(file.path), f"ACL file: {file.condition.value}")
    unread = file.condition is Condition.NO_ACCESS and needed - target.rights
    for problem in file.problems:
        verdict = Verdict.NO if unread else Verdict.NOTE
        yield Layer(Kind.ACL, verdict, str(problem.place), problem.text)
    decided = {
        id(reason)
        for right in needed.each()
        if (reason := target.effective.reason_for(right)) is not None
    }
    for reason in target.effective.reasons:
        verdict = Verdict.NOTE
        if id(reason) in decided:
            grants = reason.effect in (Effect.GAVE, Effect.RESTORED)
            covered = reason.rights & needed & target.rights
            verdict = Verdict.YES if grants and covered else Verdict.NO
            if grants and not covered:
                verdict = Verdict.NOTE
        yield Layer(Kind.ACL, verdict, str(reason.place or ""), reason.text)
    who = who_text(context.viewer)
    have = target.rights.letters or "nothing"
    missing = needed - target.rights
    text = f"{who} has {have} on {target.name or 'the top level'}, needed: {needed}"
    if missing:
        text += f"; missing: {' '.join(missing.long_names())}"
    place = str(file.path) if file.mtime else ""
    yield Layer(Kind.ACL, Verdict.NO if missing else Verdict.YES, place, text)


def _mending(context: ViewerContext, target: Target) -> Change | None:
    """What comes before everything else where an ACL has a line that nobody can read."""
    try:
        context.unhindered.acl_of(target.mailbox)
    except SharingError as flaw:
        if flaw.code is Code.CORRUPT:
            return Change(
                f"correct the ACL file and ask again: {flaw.detail}",
                ("what its other lines grant: the kernel may still refuse, or more be missing",),
            )
    return None


def _acl_change(context: ViewerContext, target: Target, missing: Rights) -> Change | None:
    mailbox = target.mailbox
    try:
        acl = context.unhindered.acl_of(mailbox)
    except SharingError:
        return None  # out of reach even of root
    viewer = context.policy.acl_viewer(context.viewer, mailbox)
    if mailbox.acl_dir is None:
        return configured_change(context, target, missing)
    nobody = not any(viewer.matches(entry.identifier) for entry in acl.entries)
    defaults = target.rights if nobody else NONE
    remedy = acl_remedy(acl, viewer, defaults, missing)
    if remedy is None:
        reason = target.effective.reason_for(missing.each()[0])
        if reason is not None and reason.entry is not None and reason.entry.is_global:
            return Change(f"change the entry {reason.entry} in the configuration: {reason.place}")
        return None
    owner, name = administered_as(context, target.found)
    return Change("; ".join(remedy.commands(owner, name)), remedy.opens())


def _derived_change(
    context: ViewerContext, target: Target, layers: Iterable[Layer]
) -> Change | None:
    """Map and list cache follow from the ACL files: they are only written anew."""
    derived = (Kind.MAP, Kind.CACHE)
    if not any(layer.kind in derived and layer.verdict is Verdict.NO for layer in layers):
        return None
    if context.share_map is None and target.namespace.type == "shared":
        if context.form is Form.V23:
            return Change("in the configuration: plugin { acl_shared_dict = file:... }")
        return Change("in the configuration: acl_sharing_map { dict file { path = ... } }")
    command = f"sharefs acl recalc -u {target.namespace.owner or context.user.name}"
    return Change(command, ("nothing else: it only lists what the ACL files grant",))


def administered_as(context: ViewerContext, found: Found) -> tuple[str, str]:
    """Whose -u, and under which name, an administrator changes a mailbox's ACL."""
    namespace = found.namespace
    if namespace.type != "shared" or not namespace.owner:
        return context.user.name, found.name
    inbox = context.namespaces.inbox
    separator = inbox.separator if inbox is not None else namespace.separator
    prefix = inbox.prefix if inbox is not None and found.levels != ("INBOX",) else ""
    return namespace.owner, prefix + separator.join(found.levels)


def _rule(
    context: ViewerContext, operation: Operation, target: Target, other: Target | None
) -> Layer | None:
    """What sharefs refuses although rights and permissions would allow it."""
    inbox = target.levels == ("INBOX",) and target.namespace.type != "public"
    match operation:
        case Operation.DELETE if inbox:
            return Layer(Kind.RULE, Verdict.NO, "", "INBOX cannot be deleted (RFC 3501 6.3.4)")
        case Operation.CREATE if target.exists:
            return Layer(Kind.RULE, Verdict.NO, "", f"{target.name} exists already")
        case Operation.RENAME_TO if other is not None:
            return _rename_rule(context, target, other)
        case Operation.CREATE:
            return _create_rule(context, target)
        case _ if target.existence is Existence.NO_SELECT and operation is not Operation.LIST:
            return Layer(Kind.RULE, Verdict.NO, "", f"{target.name} is a level that holds no mail")
        case _:
            return None


def _create_rule(context: ViewerContext, target: Target) -> Layer | None:
    """A directory whose group cannot be given to it is not made."""
    if target.namespace.type == "shared" and not os.path.isdir(target.namespace.location.path):
        root = str(target.namespace.location.path)
        return Layer(Kind.RULE, Verdict.NO, root, "another user's mail root is not ours to make")
    above = nearest_directory(target.storage.mailbox_path(target.levels).parent)
    creation = creation_as(context, target.found)
    inode = inode_of(os.path.realpath(above))
    predicted = predict_dir(inode, creation, context.who, rule=group_rule_at(inode))
    if predicted.refused_gid is None:
        return None
    text = (
        f"the new directory must get group {predicted.refused_gid}, taken from {creation.origin},"
        f" and uid {context.who.uid} is not in that group: chmod g+s {above} leaves it to the"
        " kernel"
    )
    return Layer(Kind.RULE, Verdict.NO, creation.origin, text)


def _rename_rule(context: ViewerContext, target: Target, other: Target) -> Layer:
    if other.namespace is not target.namespace:
        text = f"{target.name} and {other.name} are in different namespaces"
        return Layer(Kind.RULE, Verdict.NO, "", text)
    if other.exists:
        return Layer(Kind.RULE, Verdict.NO, "", f"{other.name} exists already")
    decision = rename_decision(
        creation_as(context, target.found), creation_as(context, other.found),
        below_another=len(other.levels) > 1,
    )  # fmt: skip
    verdict = Verdict.YES if decision else Verdict.NO
    return Layer(Kind.RULE, verdict, "", f"renaming: {decision.reason}")


def people_of(users: Sequence[MailUser]) -> People:
    """For Explained.changes: everybody whose access a change might touch."""
    return [(user.name, credentials_of(user)) for user in users]
