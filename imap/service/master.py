"""The master: binds ports, starts the other processes, watches them; parses no protocol.

A single-threaded poll loop without trio, so that a fork is safe at any moment.  SIGTERM and SIGINT
end the service, SIGHUP reads the configuration anew for new connections, SIGUSR1 reopens
log files.  When the master dies, however it dies, the others see their channels close, and end.
"""

import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from imap.service.channel import ChannelError
from imap.service.children import AUTH, LOGIN, SPAWNER, Child
from imap.service.generation import Generation, Program
from imap.service.listeners import bind, bind_lookup
from imap.service.log_writer import LogWriter
from imap.service.logs import clean
from imap.service.notify import notify
from imap.service.processes import describe_exit
from imap.service.settings import ListenerSettings, ServiceSettings
from imap.service.tls import make_context
from sharefs import fsops
from sharefs.errors import Code, SharingError
from sharefs.permissions.inherit import DEFAULTS

_END_PATIENCE: Final = 2.7  # seconds from SIGTERM to SIGKILL
_PR_SET_CHILD_SUBREAPER: Final = 36  # <linux/prctl.h>
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
_PRIORITY: Final = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}


class Master:
    """load makes the program from the configuration; called again for SIGHUP.

    load raises SharingError when the configuration cannot be served.
    """

    def __init__(self, load: Callable[[], Program], *, on_ready: Callable[[], None]) -> None:
        self._load = load
        self._on_ready = on_ready
        self._program = load()
        self._writer = _open_log(self._program.settings)
        self._bound: dict[tuple[str, int], tuple[ListenerSettings, socket.socket]] = {}
        self._lookup: socket.socket | None = None
        self._generations: list[Generation] = []
        self._poll = select.poll()
        self._actions: dict[int, Callable[[], None]] = {}
        self._announced = False
        self._stop_at: float | None = None
        self._auth_told = False

    # -- start and end ---------------------------------------------------------------------

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT.  Exit status.  Raises SharingError if it cannot start."""
        settings = self._program.settings
        _raise_descriptor_limit()
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans are ours to wait for
        _make_base_dir(settings)
        with _only_master(settings.pid_path), self._signals():
            try:
                listeners = self._bind(settings)
                self._lookup = bind_lookup(settings.lookup_path)
                self._generations.append(
                    Generation(self._program, listeners, self._lookup, self._writer)
                )
                self._say(logging.INFO, f"sharefs starting up for {_ports(self._bound.values())}")
                self._warn(self._program)
                self._loop()
            finally:
                self._close(settings)
        return os.EX_OK

    def _loop(self) -> None:
        while True:
            now = time.monotonic()
            for generation in self._generations:
                for child in generation.start_due(now=now):
                    self._watch(child, generation)
            if self._stop_at is not None and self._stopped(now):
                return
            for fd, _ in self._poll.poll(self._timeout(now)):
                action = self._actions.get(fd)
                if action is not None:
                    action()
            self._generations = [
                generation
                for generation in self._generations
                if not generation.retired or generation.children
            ]

    def _timeout(self, now: float) -> int | None:
        """Milliseconds until something is due."""
        times = [due for each in self._generations if (due := each.next_due()) is not None]
        if self._stop_at is not None:
            times.append(self._stop_at)
        return max(0, int((min(times) - now) * 1000) + 1) if times else None

    def _stopped(self, now: float) -> bool:
        children = [child for each in self._generations for child in each.children]
        if not children:
            return True
        if not self._auth_told and all(child.role != SPAWNER for child in children):
            self._auth_told = True
            for generation in self._generations:
                generation.stop(AUTH, LOGIN)
        if now < (self._stop_at or 0):
            return False
        for child in children:
            self._say(logging.WARNING, f"{child.label} does not end; killed")
        for generation in self._generations:
            generation.kill()
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
        return True

    def _close(self, settings: ServiceSettings) -> None:
        for _, sock in self._bound.values():
            sock.close()
        if self._lookup is not None:
            self._lookup.close()
            with contextlib.suppress(OSError):
                fsops.unlink(settings.lookup_path, missing_ok=True)
        self._say(logging.INFO, "sharefs ended")
        self._writer.close()

    # -- signals ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        wake_in, wake_out = socket.socketpair()
        with wake_in, wake_out:
            wake_in.setblocking(False)
            wake_out.setblocking(False)
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            old_fd = signal.set_wakeup_fd(wake_out.fileno(), warn_on_full_buffer=False)
            for number in _SIGNALS:
                signal.signal(number, lambda number, frame: None)
            self._register(wake_in.fileno(), lambda: self._woken(wake_in))
            try:
                yield
            finally:
                signal.set_wakeup_fd(old_fd)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _woken(self, wake: socket.socket) -> None:
        numbers: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while octets := wake.recv(4096):
                numbers |= set(octets)
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGUSR1 in numbers:
            self._reopen_logs()
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            self._stop()
        elif signal.SIGHUP in numbers:
            self._reload()

    def _stop(self) -> None:
        if self._stop_at is not None:
            return
        notify("STOPPING=1")
        self._say(logging.INFO, "Ending: clients are told BYE")
        self._stop_at = time.monotonic() + _END_PATIENCE
        for generation in self._generations:
            # Logins go on carrying TLS clients' octets, so that these hear BYE too.
            generation.stop(LOGIN, SPAWNER)

    def _reload(self) -> None:
        """New processes for new connections.  A configuration with errors changes nothing."""
        if self._stop_at is not None:
            return
        self._reopen_logs()
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            program = self._load()
            _check_tls(program.settings)
            if program.settings.base_dir != self._program.settings.base_dir:
                raise SharingError(Code.CANNOT, "base_dir cannot change while the server runs")
            listeners = self._bind(program.settings)
        except SharingError as refusal:
            self._say(logging.ERROR, f"Not reloaded, the old configuration stays: {refusal.detail}")
            notify("READY=1")
            return
        assert self._lookup is not None
        self._announced = False
        self._program = program
        self._generations.append(Generation(program, listeners, self._lookup, self._writer))
        self._say(logging.INFO, f"Reloading for {_ports(self._bound.values())}")
        self._warn(program)

    def _warn(self, program: Program) -> None:
        for warning in program.warnings:
            self._say(logging.WARNING, warning)

    def _reopen_logs(self) -> None:
        try:
            self._writer.reopen()
        except OSError as exc:
            self._say(logging.ERROR, f"Cannot reopen {exc.filename}: {exc.strerror}")

    # -- ports -----------------------------------------------------------------------------

    def _bind(self, settings: ServiceSettings) -> list[tuple[socket.socket, bool]]:
        """Bind what is new, close what is gone.  All or nothing.

        Returns the sockets, and whether TLS comes first there.  A port that stays keeps its socket
        and the connections waiting in it, even if its name or its use of TLS changes.
        """
        _check_tls(settings)
        bound: dict[tuple[str, int], tuple[ListenerSettings, socket.socket]] = {}
        fresh: list[socket.socket] = []
        try:
            for listener in settings.listeners:
                place = (listener.address, listener.port)
                _, sock = self._bound.get(place, (None, None))
                if sock is None and (sock := bind(listener)) is not None:
                    fresh.append(sock)
                if sock is not None:
                    bound[place] = (listener, sock)
        except SharingError:
            for sock in fresh:
                sock.close()
            raise
        for place, (_, sock) in self._bound.items():
            if place not in bound:
                sock.close()
        self._bound = bound
        return [(sock, listener.tls) for listener, sock in bound.values()]

    # -- children --------------------------------------------------------------------------

    def _register(self, fd: int, action: Callable[[], None]) -> None:
        self._actions[fd] = action
        self._poll.register(fd, select.POLLIN)

    def _unregister(self, fd: int) -> None:
        if self._actions.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _watch(self, child: Child, generation: Generation) -> None:
        self._register(child.channel.fileno(), lambda: self._hear(child, generation))
        log_fd = child.log.fd

        def read_log() -> None:
            if not child.log.read():
                self._unregister(log_fd)

        self._register(log_fd, read_log)

    def _hear(self, child: Child, generation: Generation) -> None:
        try:
            message = child.channel.receive()
        except BlockingIOError:
            return
        except ChannelError as exc:
            self._say(logging.ERROR, f"{child.label} sent {exc}")
            return
        if message is None:
            self._unregister(child.channel.fileno())
            return
        message.close()
        if message.body.get("ready") is True:
            child.ready = True
            self._check_ready(generation)

    def _check_ready(self, generation: Generation) -> None:
        """The newest generation is ready: tell the world, and let its predecessors go."""
        if self._announced or generation is not self._generations[-1] or not generation.ready:
            return
        self._announced = True
        for older in self._generations[:-1]:
            if not older.retired:
                older.retire(now=time.monotonic())
        self._say(logging.INFO, "Ready")
        notify("READY=1")
        self._on_ready()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for generation in self._generations:
                for child in generation.children:
                    if child.pid == pid:
                        self._died(child, generation, status)

    def _died(self, child: Child, generation: Generation, status: int) -> None:
        child.log.read_rest()
        if not child.log.open:
            self._unregister(child.log.fd)
        self._unregister(child.channel.fileno())
        child.channel.close()
        delay = generation.died(child, now=time.monotonic())
        if delay is not None:
            self._say(
                logging.CRITICAL,
                f"{child.label} died: {describe_exit(status)}; a new one starts in {delay:.1f} s",
            )
        elif status:
            self._say(logging.ERROR, f"{child.label} ended with {describe_exit(status)}")

    def _say(self, level: int, text: str) -> None:
        word = logging.getLevelName(level).capitalize()
        self._writer.write(_PRIORITY[level], f"master: {word}: {clean(text)}")


def _open_log(settings: ServiceSettings) -> LogWriter:
    """Raises SharingError when a log file cannot be opened."""
    try:
        return LogWriter(settings.log_path, settings.info_log_path)
    except OSError as exc:
        detail = f"cannot log to {exc.filename}: {exc.strerror}; see log_path"
        raise SharingError(Code.UNAVAILABLE, detail) from exc


def _raise_descriptor_limit() -> None:
    """As many descriptors as the host allows: a login process holds three for a TLS client."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_tls(settings: ServiceSettings) -> None:
    """Load the certificate once, here, where an error still reaches the administrator."""
    if settings.login.tls is not None:
        make_context(settings.login.tls)


def _make_base_dir(settings: ServiceSettings) -> None:
    """base_dir and the logins' empty root, for everybody to pass.  Raises SharingError."""
    public = replace(DEFAULTS, dir_mode=0o755)
    try:
        if not fsops.exists(settings.base_dir):
            fsops.make_dirs(settings.base_dir, public)
        if not fsops.exists(settings.empty_path):
            fsops.make_dir(settings.empty_path, public)
    except OSError as exc:
        raise SharingError(
            Code.UNAVAILABLE,
            f"base_dir {settings.base_dir} cannot be made: {exc.strerror or exc};"
            " set base_dir to a directory that this user may write",
        ) from exc


@contextlib.contextmanager
def _only_master(path: Path) -> Iterator[None]:
    """Hold the pid file.  Raises SharingError when another master does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as exc:
        raise SharingError(Code.UNAVAILABLE, f"cannot write {path}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            pid = os.read(fd, 20).decode("ascii", "replace").strip()
            detail = f"the server runs already, as process {pid} (see {path})"
            raise SharingError(Code.IN_USE, detail) from exc
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
        fsops.unlink(path, missing_ok=True)
    finally:
        os.close(fd)


def _ports(listeners: Iterable[tuple[ListenerSettings, socket.socket]]) -> str:
    names = (f"{listener.name} on {listener.address}:{listener.port}" for listener, _ in listeners)
    return ", ".join(names) or "no port at all"
