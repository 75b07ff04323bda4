"""From the command to a running mount: what must be there first, and who is told that it is."""

import logging
import os
import re
import stat
import time
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from sharefs import fsops
from sharefs.config import Config
from sharefs.errors import Code, SharingError
from sharefs.mount import main, points
from sharefs.mount.copies import LIMIT, Copies
from sharefs.mount.locks import Locks
from sharefs.mount.log_limit import limit_root
from sharefs.mount.mirror import Mirror
from sharefs.mount.operations import Operations, PatientOperations
from sharefs.mount.service_manager import notify, watch
from sharefs.mount.view import View
from sharefs.mount.viewers import Viewers
from sharefs.mount.waiting import Pausing
from sharefs.permissions.inherit import DEFAULTS

log: Final = logging.getLogger(__name__)

# Options of ours and of the kernel that fstab(5) may carry for us; x- ones are for mount(8).
_IGNORED: Final = frozenset({"auto", "noauto", "nofail", "defaults", "users", "_netdev", "rw"})
LOCK_PART: Final = 8  # of all descriptors; see main.share_out
COPIES: Final = "copies="
LOCKS: Final = {"locks=backing": True, "locks=local": False}  # also for programs beside the mount?
PARENTS: Final = replace(DEFAULTS, dir_mode=0o755)
_KERNEL: Final = frozenset(
    {"ro", "nodev", "dev", "nosuid", "suid", "noexec", "exec", "noatime", "atime", "sync", "async",
     "dirsync"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What to mount where.  source None: the view.  state: for viewers' copies of control files."""

    mountpoint: Path
    source: Path | None
    options: frozenset[str] = frozenset()
    state: Path | None = None


def run(request: Request, config: Config | None, *, ready_fd: int = -1) -> None:
    """Mount and serve until unmounted.  Raises SharingError where it cannot.

    ready_fd: gets b"ready" once mounted, and is closed.
    """
    limit_root()
    demand_possible(request)
    descriptors = main.raise_limits()
    mounting = main.Mounting(
        mountpoint=request.mountpoint,
        source=str(request.source) if request.source is not None else "sharefs",
        options=kernel_options(request.options),
        default_permissions=request.source is not None,
        mirrored=request.source,
        allow_other=os.geteuid() == 0 or points.user_allow_other(),
    )
    operations = _operations(request, config, descriptors)

    def on_ready() -> None:
        notify("READY=1")
        watch(lambda: os.statvfs(request.mountpoint))  # a request like any other
        if ready_fd >= 0:
            os.write(ready_fd, b"ready")
            os.close(ready_fd)

    try:
        main.serve(operations, mounting, on_ready)
        notify("STOPPING=1")
    except RuntimeError as exc:
        raise SharingError(
            Code.UNAVAILABLE, f"cannot mount on {request.mountpoint}: {exc}"
        ) from exc


def _operations(request: Request, config: Config | None, descriptors: int) -> Operations:
    if request.source is not None:
        try:
            root_fd = fsops.open_dir(request.source, follow=True)
        except OSError as exc:
            raise SharingError(
                Code.UNAVAILABLE, f"cannot mirror {request.source}: {exc.strerror}"
            ) from exc
        roots = PurePosixPath(request.source), PurePosixPath(request.mountpoint)
        tree = Mirror(root_fd, Pausing(), roots=roots)
        # enable_acl: the kernel reads POSIX ACLs and decides by them.
        handles = main.share_out(descriptors, tree)
        return Operations(tree, handles, enable_acl=True, locks=_locks(request, descriptors))
    assert config is not None, "the view needs a configuration"
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    copies = Copies(state_directory(request.state), copies_limit(request.options))
    for name in copies.remove_unused(time.time()):
        log.info("the copies %s were not used for long, and are removed", name)
    view = View(Viewers(config), copies, root_fd, Pausing())
    handles = main.share_out(descriptors, view)
    return PatientOperations(view, handles, locks=_locks(request, descriptors))


def _locks(request: Request, descriptors: int) -> Locks | None:
    """Locks that programs beside the mount see, unless it was asked for others."""
    wanted = {value for word, value in LOCKS.items() if word in request.options}
    if len(wanted) > 1:
        both = " and ".join(LOCKS)
        raise SharingError(Code.INVALID, f"the mount options {both} exclude each other")
    return None if wanted == {False} else Locks(max(descriptors // LOCK_PART, 16))


def state_directory(given: Path | None) -> Path:
    """Where viewers' own copies of control files lie: the daemon's alone.  Made if missing."""
    path = given
    if path is None and os.geteuid() == 0:
        path = Path("/var/lib/sharefs/mount")
    elif path is None:
        base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        path = Path(base, "sharefs", "mount")
    try:
        fsops.make_dirs(path.parent, PARENTS)
        fsops.make_dirs(path, DEFAULTS)
        status = os.stat(path, follow_symlinks=False)
    except OSError as exc:
        raise SharingError(
            Code.UNAVAILABLE, f"the state directory {path} cannot be made: {exc.strerror}; name"
            " another one with --state",
        ) from exc  # fmt: skip
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or not stat.S_ISDIR(status.st_mode):
        raise SharingError(
            Code.UNAVAILABLE, f"the state directory {path} must be uid {os.geteuid()}'s alone"
            f" (chmod 700), but it is mode {stat.S_IMODE(status.st_mode):04o} of {status.st_uid}",
        )  # fmt: skip
    return path


def kernel_options(words: frozenset[str]) -> frozenset[str]:
    """What the kernel gets.  Raises SharingError(INVALID) for a word that means nothing here."""
    found = set()
    for word in words - _IGNORED - LOCKS.keys():
        if word in _KERNEL:
            found.add(word)
        elif word.startswith(COPIES):
            copies_limit({word})
        elif not word.startswith("x-"):
            known = ", ".join(sorted({*_KERNEL, *LOCKS, COPIES + "SIZE"}))
            raise SharingError(
                Code.INVALID, f"the mount option {word!r} means nothing here; there are {known}"
            )
    return frozenset(found)


def copies_limit(words: Set[str]) -> int:
    """Octets of control files that each uid may have of his own.  Raises SharingError(INVALID)."""
    limit = LIMIT
    for word in words:
        if word.startswith(COPIES):
            size = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", word.removeprefix(COPIES).upper())
            if size is None:
                raise SharingError(
                    Code.INVALID, f"the mount option {word!r} wants a size: 500M, 2G, ..."
                )
            limit = int(size[1]) << 10 * " KMGT".index(size[2] or " ")
    return limit


def demand_possible(request: Request) -> None:
    """Raises SharingError saying what is missing and what to do about it."""
    points.demand_fuse()
    points.recover_stale(request.mountpoint)
    try:
        status = os.stat(request.mountpoint)
    except OSError as exc:
        raise SharingError(
            Code.UNAVAILABLE, f"cannot mount on {request.mountpoint}: {exc.strerror}; it must be"
            " an existing directory",
        ) from exc  # fmt: skip
    if not stat.S_ISDIR(status.st_mode):
        raise SharingError(Code.INVALID, f"cannot mount on {request.mountpoint}: no directory")
    if request.source is None and os.geteuid() != 0:
        log.warning(
            "not root: this mount serves uid %d alone, with the rights that it has anyway",
            os.geteuid(),
        )


def run_in_background(request: Request, config: Config | None) -> None:
    """Returns when it is mounted.  Raises SharingError with the reason when it cannot be."""
    demand_possible(request)
    ready_out, ready_in = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ready_out)
        os._exit(_background(request, config, ready_in))
    os.close(ready_in)
    os.waitpid(pid, 0)
    with open(ready_out, "rb") as pipe:
        answer = pipe.read()
    if answer != b"ready":
        detail = answer.decode("utf-8", "replace") or "it ended before it was mounted"
        raise SharingError(Code.UNAVAILABLE, f"the mount did not start: {detail}")


def _background(request: Request, config: Config | None, ready: int) -> int:
    """In the first child: detach, leave the daemon in a second one."""
    os.setsid()
    if os.fork():
        return 0
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    _log_to_syslog()
    try:
        run(request, config, ready_fd=ready)
    except SharingError as refusal:
        log.error("%s", refusal.detail)
        try:
            os.write(ready, refusal.detail.encode())
        except OSError:
            return os.EX_UNAVAILABLE  # it was mounted, and closed then
        return os.EX_UNAVAILABLE
    return 0


def _log_to_syslog() -> None:
    from logging.handlers import SysLogHandler

    if os.path.exists("/dev/log"):
        handler = SysLogHandler("/dev/log", SysLogHandler.LOG_MAIL)
        handler.setFormatter(logging.Formatter("sharefs-mount: %(message)s"))
        logging.getLogger().addHandler(handler)


def status_lines(mountpoint: Path | None) -> list[str]:
    """One line for each mount of ours.  Raises SharingError if the one asked for is none."""
    found = [one for one in points.mounts() if mountpoint in (None, one.mountpoint)]
    if not found and mountpoint is not None:
        raise SharingError(Code.UNAVAILABLE, f"{mountpoint} is no mount of sharefs")
    return [one.text() for one in found]
