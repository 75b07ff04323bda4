"""Users with homes of their own and mail in them, and the view of it."""

import contextlib
import os
from collections.abc import Iterator

from tests.account.world import UIDS, World, world_in_tmp
from tests.support.mount import Mount, mounted

FOLDERS = ("cur", "new", "tmp")


@contextlib.contextmanager
def users_at_home() -> Iterator[World]:
    """Each user has a home that is closed to the others, and a mailbox Own."""
    with world_in_tmp() as world:
        for name, uid in UIDS.items():
            os.chown(world.home(name), uid, uid)
            world.home(name).chmod(0o700)
            world.as_user(name, lambda account: account.create("Own"))
        yield world


def make_inboxes(world: World) -> None:
    """As a first visit of each of them would; and everybody may share."""
    for name, uid in UIDS.items():
        world.maildir(name).chmod(0o700)
        for folder in FOLDERS:
            (world.maildir(name) / folder).mkdir(exist_ok=True, mode=0o700)
            os.chown(world.maildir(name) / folder, uid, uid)
    (world.top / "db").chmod(0o777)


@contextlib.contextmanager
def view_of(world: World) -> Iterator[Mount]:
    """The view, mounted until the end of the block."""
    state = world.top / "state"
    with mounted(world.top, ["--state", state], config=world.config_path) as mount:
        yield mount


@contextlib.contextmanager
def viewed() -> Iterator[tuple[World, Mount]]:
    """users_at_home(), and what they see."""
    with users_at_home() as world, view_of(world) as mount:
        yield world, mount
