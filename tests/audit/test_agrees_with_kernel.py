"""The engine's answers are the kernel's: random trees are asked about, then tried.

SHAREFS_KERNEL_TREES: how many trees, and SHAREFS_KERNEL_SEED: which ones.  By default it ends
after some 20 seconds even on a busy machine; a night of it is SHAREFS_KERNEL_TREES=1000000.
"""

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.audit.kernel import ask_kernel
from sharefs.audit.mounts import mounts_of_host
from sharefs.audit.names import Names
from sharefs.audit.questions import Question, Told, Verb, World, ask
from sharefs.permissions.access import Credentials
from tests.audit.random_trees import PEOPLE, Grower, attempt, private_mounts
from tests.support.become import Identity, run_as

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

TREES = int(os.environ.get("SHAREFS_KERNEL_TREES", "3000"))
SECONDS = float("inf") if "SHAREFS_KERNEL_TREES" in os.environ else 18.0
SEED = int(os.environ.get("SHAREFS_KERNEL_SEED", "20260822"))
BATCH = 250  # trees in one mount namespace


def credentials(who: Identity) -> Credentials:
    return Credentials(who.uid, who.gid, frozenset(who.groups))


@pytest.fixture
def top() -> Iterator[Path]:
    """Removed once its mounts are gone with their namespace; inside of it some are in the way."""
    made = Path(tempfile.mkdtemp(prefix="sharefs-trees-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def one_batch(top: Path, seed: int, count: int) -> tuple[list[str], Counter[str]]:
    """Disagreements, and how often each verb was allowed or denied.  Runs as the superuser."""
    private_mounts()
    top.mkdir()
    top.chmod(0o755)
    grower = Grower(seed)
    trees = [grower.grow(top / f"t{number}") for number in range(count)]
    asked: list[list[tuple[Question, Told]]] = [[] for _ in PEOPLE]
    mounts = mounts_of_host()
    for tree in trees:
        # Mounts elsewhere cannot matter here, and looking through thousands takes long.
        near = [mount for mount in mounts if not mount.point.startswith(f"{top}/")]
        near += [mount for mount in mounts if mount.point.startswith(f"{tree.top}/")]
        world = World(near, remembered={})
        for number, question in tree.questions:
            told = ask(question, credentials(PEOPLE[number]), world)
            asked[number].append((question, told))
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    for who, questions in zip(PEOPLE, asked, strict=True):
        got = who.run(
            lambda questions=questions, who=who: [  # type: ignore[misc]  # mypy: defaults of lambdas
                attempt(question, serial + 100_000 * PEOPLE.index(who))
                for serial, (question, _) in enumerate(questions)
            ]
        )
        for (question, told), kernel in zip(questions, got, strict=True):
            seen[f"{question.verb.value} {kernel}"] += 1
            if told.allowed != kernel:
                wrong.append(f"{who}: {question}: kernel {kernel}, we {told}")
    return wrong, seen


def test_thousands_of_trees(top: Path) -> None:
    seen: Counter[str] = Counter()
    started, trees = time.monotonic(), 0
    for number in range(0, TREES, BATCH):
        if trees >= 1000 and time.monotonic() - started > SECONDS:
            break
        count = min(BATCH, TREES - number)
        wrong, part = run_as(0, 0, (), lambda: one_batch(top / str(number), SEED + number, count))  # noqa: B023  # at once
        assert not wrong, "\n".join(wrong[:3])
        seen += part
        trees += count
    for verb in Verb:  # a test that always denies proves nothing
        for answer in (True, False):
            assert seen[f"{verb.value} {answer}"] > trees / 500, (verb, answer, seen)


def mend_batch(top: Path, seed: int, count: int) -> list[str]:
    """Carry out the changes that the engine names, and try again.  Returns what went wrong."""
    private_mounts()
    wrong: list[str] = []
    grower = Grower(seed)
    for number in range(count):
        tree = grower.grow(top / f"t{number}")
        # One question for each tree: mending for one would change the answer to the next.
        who, question = PEOPLE[tree.questions[0][0]], tree.questions[0][1]
        answer = ask_kernel([question], credentials(who), names=Names())
        if answer.allowed or not answer.complete:
            continue
        for change in answer.changes:
            who = carry_out(change.command, who)
        if not who.run(attempt, question, number):
            wrong.append(f"{who} {question}: {[one.command for one in answer.changes]}")
    return wrong


def carry_out(command: str, who: Identity) -> Identity:
    """Do what an administrator would do.  Returns the viewer afterwards."""
    words = command.split()
    if command.startswith("add group"):
        return Identity(who.uid, who.gid, (*who.groups, int(words[2])))
    assert os.system(command) == 0, command
    return who


def test_changes_that_are_named_suffice(top: Path) -> None:
    wrong = run_as(0, 0, (), lambda: mend_batch(top, SEED, 150))
    assert not wrong, "\n".join(wrong[:3])
