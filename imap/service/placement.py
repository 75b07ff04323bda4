"""Which worker serves which user: one per Unix identity, or a pool where many users share one uid.

Pure: the spawner asks and acts.  Workers are named by any hashable key (the spawner uses pids).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Identity:
    """What the kernel sees of a mail process.  groups: supplementary gids, sorted, without gid."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, uid: int, gid: int, groups: tuple[int, ...]) -> "Identity":
        """Equal identities compare equal whatever order and repeats the groups came in."""
        return cls(uid, gid, tuple(sorted({*groups} - {gid})))


@dataclass(slots=True)
class _Worker:
    identity: Identity
    connections: dict[str, tuple[str, str]] = field(default_factory=dict)  # session: user, address
    idle_since: float = 0.0  # meaningful while there are no connections


NEW: Final = None  # place() says: fork one


@dataclass(slots=True)
class Placement:
    """Living workers, their connections, and the rules over both.

    pool_size: workers one identity may have when several user names share it.
    max_per_address: connections of one user from one address; 0: no limit
    (mail_max_userip_connections).
    """

    pool_size: int
    max_per_address: int
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _homes: dict[tuple[Identity, str], int] = field(default_factory=dict)  # sticky: user -> worker
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _asleep: dict[str, tuple[str, str]] = field(default_factory=dict)  # session: user, address

    def may_connect(self, user: str, address: str) -> bool:
        """Whether one more connection of user from address stays within the limit."""
        return not self.max_per_address or self._counts[user, address] < self.max_per_address

    def place(self, identity: Identity, user: str) -> int | None:
        """The worker for user's next connection, or NEW.

        A user stays with one worker while it lives, so that all their connections share its open
        mailboxes.  Another user of the same identity gets a worker of their own until the pool is
        full, then the one with the fewest connections.
        """
        home = self._homes.get((identity, user))
        if home is not None:
            return home
        pool = [pid for pid, worker in self._workers.items() if worker.identity == identity]
        if not pool:
            return NEW
        least = min(pool, key=lambda pid: len(self._workers[pid].connections))
        if self._workers[least].connections and len(pool) < self.pool_size:
            return NEW
        return least

    def add_worker(self, pid: int, identity: Identity, *, now: float) -> None:
        self._workers[pid] = _Worker(identity, idle_since=now)

    def connect(self, pid: int, session: str, user: str, address: str) -> None:
        """Record a connection that was handed to worker pid."""
        worker = self._workers[pid]
        worker.connections[session] = (user, address)
        self._homes[worker.identity, user] = pid
        self._counts[user, address] += 1

    def disconnect(self, pid: int, session: str, *, now: float) -> None:
        """Record an end.  A worker or session that is not known is no error: both may have gone."""
        worker = self._workers.get(pid)
        if worker and (who := worker.connections.pop(session, None)):
            self._forget(who)
            if not worker.connections:
                worker.idle_since = now

    def remove_worker(self, pid: int) -> int:
        """Forget a worker and its connections; how many it had."""
        worker = self._workers.pop(pid, None)
        if worker is None:
            return 0
        for who in worker.connections.values():
            self._forget(who)
        for key in [key for key, home in self._homes.items() if home == pid]:
            del self._homes[key]
        return len(worker.connections)

    # -- asleep: without a worker, but they count -------------------------------------------

    def sessions(self, pid: int) -> frozenset[str]:
        """The connections of worker pid."""
        worker = self._workers.get(pid)
        return frozenset(worker.connections if worker else ())

    def sleep(self, pid: int) -> None:
        """Forget a worker whose connections live on."""
        worker = self._workers[pid]
        self._asleep.update(worker.connections)
        worker.connections = {}
        self.remove_worker(pid)

    def wake(self, pid: int, session: str) -> None:
        """Worker pid serves a connection that slept."""
        who = self._asleep.pop(session)
        self.connect(pid, session, *who)
        self._forget(who)

    def leave(self, session: str) -> None:
        """A connection ended in its sleep."""
        self._forget(self._asleep.pop(session))

    def idle(self, *, now: float, limit: float) -> list[int]:
        """Workers without connections for limit seconds or longer."""
        return [
            pid
            for pid, worker in self._workers.items()
            if not worker.connections and now - worker.idle_since >= limit
        ]

    def next_idle(self, *, limit: float) -> float | None:
        """When the next worker will have been idle for limit seconds; None: no worker is idle."""
        times = [w.idle_since + limit for w in self._workers.values() if not w.connections]
        return min(times, default=None)

    def _forget(self, who: tuple[str, str]) -> None:
        self._counts[who] -= 1
        if not self._counts[who]:
            del self._counts[who]

    @property
    def connections(self) -> int:
        """All connections of all workers."""
        return sum(self._counts.values())

    @property
    def workers(self) -> tuple[int, ...]:
        return tuple(self._workers)
