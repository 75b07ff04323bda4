"""What a child process does before it is anything: descriptors, signals, its name.

Children are forked by the master and the spawner, which run no threads and no trio, so a fork is
safe at any moment.  The objects of the parent stay referenced in the child's frozen stack; only
their descriptors are closed, by number, so that nothing is closed twice.
"""

import contextlib
import gc
import os
import signal
import traceback
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

# Ctrl-C and a service manager's SIGTERM reach every process of the group or control group.  The
# master alone acts on them and tells the others by their control channels, in the right order.
_LEFT_TO_THE_MASTER: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor but 0, 1, 2 and those in keep."""
    start = 3
    for fd in sorted({*keep}):
        if fd >= start:
            os.closerange(start, fd)
            start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def set_process_name(name: str) -> None:
    """The name that ps -o comm and top show; the kernel keeps 15 octets.  Never fails."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb", buffering=0) as comm:
        comm.write(name.encode()[:15])


def reset_signals() -> None:
    """Undo the parent's handlers; leave group-wide signals to the master."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    for number in _LEFT_TO_THE_MASTER:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def fork_child(
    main: Callable[[], int], *, name: str, keep: Iterable[int], log_fd: int | None = None
) -> int:
    """Fork; the child runs main() and ends with the status it returns.  Returns the child's pid.

    keep: descriptors of the child's own.  log_fd: what becomes its standard output and error;
    None: the parent's.  Raises OSError when the kernel has no process to give.
    """
    pid = os.fork()
    if pid:
        return pid
    _become_child(main, name=name, keep=keep, log_fd=log_fd)


def _become_child(
    main: Callable[[], int], *, name: str, keep: Iterable[int], log_fd: int | None
) -> NoReturn:
    """Never returns into the parent's code, whatever happens: two masters would be worse."""
    status = os.EX_SOFTWARE
    try:
        reset_signals()
        if log_fd is not None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(log_fd, 1)
            os.dup2(log_fd, 2)
        close_all_but(keep)
        set_process_name(name)
        status = main()
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else os.EX_SOFTWARE
    except BaseException:
        # Our bug.  Said on standard error, which is the log; the parent sees the status.
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def settle_memory() -> None:
    """Before forking many times: what exists now stays shared between parent and children.

    Frozen objects are not touched by the collector, so their pages are not copied.
    """
    gc.collect()
    gc.freeze()


def thread_count() -> int:
    """Of this process, as the kernel counts them."""
    return len(os.listdir("/proc/self/task"))


def describe_exit(status: int) -> str:
    """A wait status in words: "status 70", "signal 9 (SIGKILL)"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"status {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
