"""The whole server with a test double for the IMAP session: what the processes do, without mail.

Run as `python -m tests.support.double_server CONFIG`.  It answers the login as the real session
does, then a few commands whose only purpose is to be observable.
"""

import os
import sys
from pathlib import Path

import trio

from imap.service import run
from imap.service.handover import Handover
from imap.service.worker import Serve, WorkerContext
from imap.wire import NEED_DATA, Command, CommandReader, ProtocolError
from sharefs.errors import Code, SharingError

LINE = b"* " + b"x" * 1021 + b"\r\n"  # 1 KiB


async def serve(stream: trio.abc.Stream, handover: Handover, worker: WorkerContext) -> None:
    """LOGOUT, and: WHO (identity), HOME name, FLOOD kibibytes, CRASH, REFUSE, BROKEN."""
    reader = CommandReader()
    reader.feed(handover.unread)
    await stream.send_all(f"{handover.tag} OK Logged in\r\n".encode())
    while True:
        event = reader.next_event()
        if event is NEED_DATA:
            octets = await stream.receive_some(4096)
            if not octets:
                return
            reader.feed(octets)
            continue
        assert isinstance(event, Command)
        argument = event.arguments.decode()
        match event.name:
            case "LOGOUT":
                await stream.send_all(f"* BYE\r\n{event.tag} OK\r\n".encode())
                return
            case "WHO":
                text = (
                    f"* WHO pid={os.getpid()} user={handover.user.name} uids={os.getresuid()}"
                    f" gids={os.getresgid()} groups={sorted(os.getgroups())} tls={handover.tls}"
                    f" remote={handover.remote} session={handover.session_id}\r\n"
                )
                await stream.send_all(text.encode())
            case "HOME":
                home = await trio.to_thread.run_sync(worker.users.home_of, argument)
                await stream.send_all(f"* HOME {home}\r\n".encode())
            case "FLOOD":
                for _ in range(int(argument)):
                    await stream.send_all(LINE)
            case "CRASH":
                raise RuntimeError("a bug of ours")
            case "REFUSE":
                raise SharingError(Code.UNAVAILABLE, "refused")
            case "BROKEN":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_break)
            case _:
                raise ProtocolError("what?", tag=event.tag)
        await stream.send_all(f"{event.tag} OK {event.name} done\r\n".encode())


async def _break() -> None:
    raise trio.BrokenResourceError


def session() -> Serve:
    return serve


if __name__ == "__main__":
    sys.exit(run.serve(Path(sys.argv[1]), foreground=True, on_ready=lambda: None, session=session))
