from collections.abc import Callable
from typing import Any

class Engine:
    stopping: bool
    drops_set_id: bool
    wary: bool
    @property
    def busy(self) -> bool: ...
    tell: Callable[[Any, str, bool, float], float] | None
    long: float
    soon: float
    @property
    def answered(self) -> int: ...
    def __init__(
        self,
        fd: int,
        acquire: Callable[[], object],
        release: Callable[[], object],
        nodes: dict[int, Any],
        by_identity: dict[Any, Any],
        slots: dict[Any, int],
        callers: dict[bytes, Any],
        handles: dict[int, Any],
        make_node: Callable[..., object],
        node_at: Callable[..., object],
        forget: Callable[..., object],
        drop: Callable[..., object],
        hold: Callable[..., object],
        lost: Callable[..., object],
        make_handle: Callable[..., object],
        demand_room: Callable[..., object],
        add_handle: Callable[..., object],
        close_handle: Callable[..., object],
    ) -> None: ...
    def next(self, buffer: bytearray, /) -> int: ...
    def allow(
        self,
        directory: object,
        uid: int,
        until: float,
        acts: int,
        hidden: int,
        entry: float,
        attr: float,
        /,
    ) -> None: ...
    def know(
        self,
        directory: object,
        name: bytes,
        node: object,
        uid: int,
        until: float,
        hidden: int,
        entry: float,
        attr: float,
        /,
    ) -> None: ...
    def make(
        self,
        directory: object,
        above: object,
        uid: int,
        gid: int,
        facts: tuple[int, int, int],
        facts_above: tuple[int, int, int],
        owned: tuple[int, int, int],
        /,
    ) -> None: ...
    def relieve(
        self, thread: int, path: str, call: bytes, exception: type[BaseException], /
    ) -> bool: ...
    def revoke(self) -> None: ...
