"""The spawner: a warmed-up interpreter that forks workers, and only for a ticket from auth.

A single-threaded poll loop, so a fork is safe at any moment, and decisions have an order: whoever
gives a connection to a worker also decides that a worker is idle, hence no connection is ever
given to one that is about to end.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from imap.service.channel import Channel, ChannelError, Message, pair
from imap.service.handover import decode_user, encode_user
from imap.service.logs import fields, start_logging
from imap.service.placement import NEW, Identity, Placement
from imap.service.processes import describe_exit, fork_child, settle_memory
from imap.service.settings import ServiceSettings
from imap.service.sleep import Sleep
from imap.service.spare import RunWorker, Spare, no_rehearsal
from imap.service.tickets import TicketBook
from sharefs.identity.model import MailUser
from sharefs.identity.privileges import become
from sharefs.message import load_charsets
from sharefs.store.boot import this_boot

log = logging.getLogger(__name__)

_END_PATIENCE: Final = 2.2  # seconds for workers to say BYE
_LIMIT: Final = (
    "Maximum number of connections from user+IP exceeded (mail_max_userip_connections={})"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What auth has verified: whose mail, and the connection it is for."""

    user: MailUser
    client: dict[str, Any]


class Spawner:
    """run_worker(control_fd, name) runs in the child, after it has become its user.

    rehearse: what one that waits for its user does before.
    """

    def __init__(
        self,
        control: Channel,
        settings: ServiceSettings,
        run_worker: RunWorker,
        *,
        rehearse: Callable[[], None] = no_rehearsal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control = control
        self._settings = settings
        self._run_worker = run_worker
        self._clock = clock
        self._spare = Spare(run_worker, rehearse, clock=clock)
        self._auth: Channel | None = None
        self._logins: dict[int, Channel] = {}
        self._workers: dict[int, Channel] = {}  # pid: channel, of workers that take connections
        self._names: dict[int, str] = {}  # pid: for the log, of workers not yet reaped
        self._lost: dict[int, int] = {}  # pid: connections it had when it hung up
        self._tickets: TicketBook[Grant] = TicketBook()
        self._placement = Placement(settings.pool_size, settings.max_user_connections)
        self._serial = 0
        self._retired = False
        self._stop_at: float | None = None  # workers have until then
        self._epoll = select.epoll()
        may_sleep = bool(settings.rest_after)
        self._sleep = Sleep(self, self._placement, self._epoll, clock, enabled=may_sleep)
        self._dormitory = self._sleep.dormitory
        self._actions: dict[int, Callable[[], None]] = {}

    # -- the loop --------------------------------------------------------------------------

    def run(self) -> None:
        """Until the master says stop or goes away, and the workers have ended."""
        wake_in, wake_out = socket.socketpair()
        with wake_in, wake_out:
            wake_in.setblocking(False)
            wake_out.setblocking(False)
            signal.set_wakeup_fd(wake_out.fileno(), warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda number, frame: None)
            self._watch(wake_in.fileno(), lambda: self._hear_of_ends(wake_in))
            self._watch(self._control.fileno(), self._obey)
            while not self._finished():
                for fd, _ in self._epoll.poll(self._timeout()):
                    action = self._actions.get(fd)  # an earlier action may have closed it
                    if action is not None:
                        action()
                    elif self._dormitory.owns(fd):
                        self._dormitory.heard(fd)
                self._end_idle()
                self._dormitory.do_due()
                if self._stop_at is None:
                    self._sleep.wake()
                    self._spare.make_if_due()

    def _watch(self, fd: int, action: Callable[[], None]) -> None:
        self._actions[fd] = action
        self._epoll.register(fd, select.EPOLLIN)

    def _close(self, channel: Channel) -> None:
        fd = channel.fileno()
        del self._actions[fd]
        self._epoll.unregister(fd)
        channel.close()

    def _timeout(self) -> float | None:
        """Seconds until something must be done unasked; None: wait for events."""
        if self._stop_at is not None:
            times = [self._stop_at]
        else:
            idle = self._placement.next_idle(limit=self._idle_limit)
            due = (idle, self._sleep.next_due(), self._spare.next_due())
            times = [each for each in due if each is not None]
        if not times:
            return None
        return max(0.0, min(times) - self._clock() + 0.001)

    @property
    def _idle_limit(self) -> float:
        return 0.0 if self._retired else self._settings.idle_limit

    def _finished(self) -> bool:
        if self._stop_at is not None:
            if self._clock() >= self._stop_at:
                for pid in self._names:
                    log.warning("%s does not end; killed", self._names[pid])
                    os.kill(pid, signal.SIGKILL)
                self._spare.kill()
                return True
            return not self._names and self._spare.is_gone
        left = self._names or len(self._dormitory) or not self._spare.is_gone
        return self._retired and self._auth is None and not left

    # -- the master ------------------------------------------------------------------------

    def _obey(self) -> None:
        try:
            message = self._control.receive()
        except BlockingIOError:
            return
        except ChannelError as exc:
            log.error("The master sent %s", exc)
            return
        order = "stop" if message is None else message.body.get("do")
        if message is None or order == "stop":
            self._stop()
        elif order == "retire":
            self._retired = True
            self._spare.give_up()
        elif order == "report":
            self._control.send({"ready": True})
        else:
            self._take(message)

    def _take(self, message: Message) -> None:
        (fd,) = message.fds
        channel = Channel(socket.socket(fileno=fd))
        match message.text("take"):
            case "auth":
                if self._auth is not None:
                    self._close(self._auth)
                self._auth = channel
                self._watch(fd, self._hear_auth)
            case "login":
                self._logins[fd] = channel
                self._watch(fd, lambda: self._hear_login(channel))

    def _stop(self) -> None:
        """Hang up on everybody; workers take that as the order to end."""
        self._close(self._control)
        for channel in (*self._logins.values(), *self._workers.values()):
            self._close(channel)
        if self._auth is not None:
            self._close(self._auth)
            self._auth = None
        self._logins.clear()
        self._workers.clear()
        self._sleep.stop()
        self._spare.give_up()
        self._stop_at = self._clock() + _END_PATIENCE

    # -- tickets ---------------------------------------------------------------------------

    def _hear_auth(self) -> None:
        """Take every ticket that has come."""
        while self._auth is not None:
            try:
                message = self._auth.receive()
            except BlockingIOError:
                return
            except ChannelError as exc:
                log.error("auth sent %s", exc)
                continue
            if message is None:
                self._close(self._auth)
                self._auth = None
                return
            client = {key: message.body[key] for key in _CLIENT}
            grant = Grant(decode_user(message.body["user"]), client)
            self._tickets.add(message.text("ticket"), grant, now=self._clock())

    def _hear_login(self, channel: Channel) -> None:
        try:
            message = channel.receive()
        except BlockingIOError:
            return
        except ChannelError as exc:
            log.error("A login process sent %s", exc)
            return
        if message is None:
            del self._logins[channel.fileno()]
            self._close(channel)
            return
        try:
            number = message.number("id")
            reply = self._redeem(message)
        except ChannelError as exc:
            log.error("A login process sent %s", exc)
            return
        finally:
            message.close()
        try:
            channel.send({**reply, "id": number})
        except OSError as exc:
            log.error("A login process does not listen: %s", exc)

    def _redeem(self, message: Message) -> dict[str, Any]:
        """Give the descriptor to a worker, or say why not.  Raises ChannelError."""
        ticket, tag, unread = message.text("ticket"), message.text("tag"), message.text("unread")
        if len(message.fds) != 1 or not stat.S_ISSOCK(os.fstat(message.fds[0]).st_mode):
            raise ChannelError("a handover without a socket")
        self._hear_auth()  # the ticket may have come this moment, by another channel
        grant = self._tickets.redeem(ticket, now=self._clock())
        if grant is None:
            log.error("A login process came with a ticket that is not good (any more)")
            return {"result": "refused"}
        user, client = grant.user, grant.client
        address = client["remote"]
        if not self._placement.may_connect(user.name, address):
            log.info("Too many connections: %s", fields(user=user.name, rip=address))
            return {
                "result": "limit",
                "text": _LIMIT.format(self._settings.max_user_connections),
            }
        self._serial += 1
        handover = {
            "user": encode_user(user),
            "tag": tag,
            "unread": unread,
            "remote": _address(address, client["remote_port"]),
            "local": _address(client["local"], client["local_port"]),
            "tls": client["tls"],
            "session_id": client["session"],
        }
        pid = self.give(user, {"handover": handover, "serial": self._serial}, message.fds)
        if pid is None:
            return {"result": "refused"}
        self._placement.connect(pid, str(self._serial), user.name, address)
        try:
            self._sleep.hold(pid, self._serial, message.fds[0], handover)
        except OSError as exc:
            log.warning("%s: a connection cannot sleep: %s", self._names[pid], exc)
        return {"result": "ok", "pid": pid}

    # -- workers ---------------------------------------------------------------------------

    def give(self, user: MailUser, body: dict[str, Any], fds: tuple[int, ...]) -> int | None:
        """Hand a connection to user's worker; its pid, None when nobody could take it."""
        for _ in range(2):
            pid = self._worker_for(user)
            if pid is None:
                return None
            try:
                self._workers[pid].send(body, fds)
            except ConnectionError:
                self._forget(pid)  # it died a moment ago: the next one is new
            except (OSError, ChannelError) as exc:
                log.error("%s cannot take a connection: %s", self._names[pid], exc)
                return None
            else:
                return pid
        return None

    def has_room(self) -> bool:
        """Whether there may be one worker more."""
        if len(self._names) >= self._settings.worker_limit:
            self._reap()  # one may have ended whose signal waits its turn in the loop
        return len(self._names) < self._settings.worker_limit

    def _worker_for(self, user: MailUser) -> int | None:
        """A worker's pid; None when there cannot be one, which is logged."""
        identity = Identity.of(user.uid, user.gid, user.gids)
        place = self._placement.place(identity, user.name)
        if place is not NEW:
            return place
        euid = os.geteuid()
        if euid and (user.uid, user.gid) != (euid, os.getegid()):
            log.error(
                "%s has uid %d and gid %d; this server runs as uid %d, and only root serves others",
                user.name, user.uid, user.gid, euid,
            )  # fmt: skip
            return None
        if not self.has_room():
            log.error(
                "No worker for %s: there are %d already (service imap { process_limit })",
                user.name, len(self._names),
            )  # fmt: skip
            return None
        try:
            pid, channel = self._spare.take(identity, user.name) or self._fork(identity, user.name)
        except OSError as exc:
            log.error("No worker for %s: %s", user.name, exc)
            return None
        self._workers[pid] = channel
        self._names[pid] = f"The worker of {user.name} (pid {pid}, uid {identity.uid})"
        self._placement.add_worker(pid, identity, now=self._clock())
        self._sleep.add_worker(pid)
        self._watch(channel.fileno(), lambda: self._hear_worker(pid, channel))
        return pid

    def _fork(self, identity: Identity, user: str) -> tuple[int, Channel]:
        ours, theirs = pair()
        with theirs:
            name = f"imap({user})"
            fd = theirs.fileno()

            def child() -> int:
                start_logging(name)
                become(identity.uid, identity.gid, identity.groups)
                return self._run_worker(fd, name)

            try:
                pid = fork_child(child, name=f"sf-imap:{user}", keep=[fd])
            except OSError:
                ours.close()
                raise
        return pid, Channel(ours)

    def _hear_worker(self, pid: int, channel: Channel) -> None:
        sleep = self._sleep
        while True:
            try:
                message = channel.receive(descriptors=sleep.expects_watch(pid))
                if message is None:
                    self._forget(pid)
                    return
                if "watch" in message.body:
                    sleep.take_watch(pid, message)
                elif "sleep" in message.body:
                    if sleep.put_to_bed(pid, channel, message):
                        del self._workers[pid]
                        self._close(channel)
                        return
                else:
                    self._disconnected(pid, message.body.get("closed"))
            except BlockingIOError:
                return
            except ChannelError as exc:
                log.error("%s sent %s", self._names.get(pid, pid), exc)

    def _disconnected(self, pid: int, serial: object) -> None:
        self._placement.disconnect(pid, str(serial), now=self._clock())
        if isinstance(serial, int):
            self._sleep.let_go(pid, serial)

    def _forget(self, pid: int) -> None:
        """Give nothing more to this worker; without our end of its channel it ends."""
        channel = self._workers.pop(pid, None)
        if channel is not None:
            self._close(channel)
            self._lost[pid] = self._placement.remove_worker(pid)
            self._sleep.remove_worker(pid)

    def _end_idle(self) -> None:
        for pid in self._placement.idle(now=self._clock(), limit=self._idle_limit):
            self._forget(pid)

    def _hear_of_ends(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while wake.recv(4096):
                pass
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self._spare.reaped(pid, status):
                continue
            name = self._names.pop(pid, str(pid))
            self._forget(pid)
            lost = self._lost.pop(pid, 0)
            if status:
                log.critical(
                    "%s died: %s, %d connections closed", name, describe_exit(status), lost
                )


_CLIENT: Final = ("session", "remote", "remote_port", "local", "local_port", "tls")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main(
    control_fd: int,
    settings: ServiceSettings,
    run_worker: RunWorker,
    rehearse: Callable[[], None] = no_rehearsal,
) -> int:
    """Serve until told to end.  The caller has imported what workers need.  Exit status."""
    start_logging("spawner", debug=settings.debug)
    load_charsets()
    this_boot()  # for those who come after, too
    settle_memory()
    try:
        control = Channel(socket.socket(fileno=control_fd))
        Spawner(control, settings, run_worker, rehearse=rehearse).run()
    except Exception:
        log.critical("Our bug; this process ends", exc_info=True)
        return os.EX_SOFTWARE
    return os.EX_OK
