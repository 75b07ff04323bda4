"""A session on an empty mailbox of nobody's, by which a process that waits comes to know its part.

Most of what a worker's first commands cost is copying pages that it shares with the process it was
forked from, and running code for the first time.  Both are over when it has been done once.

Rules of this file.  Whoever rehearses is still root and becomes a user later: there may be no
thread, so what would go to one is done in line; all files are made here and removed; nothing of the
administrator's configuration counts, which may name any path.
"""

import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imap.service import worker
from imap.service.channel import pair
from imap.service.handover import Handover, encode
from imap.service.threads import in_line
from sharefs import fsops
from sharefs.config import Config, load
from sharefs.identity.model import MailUser

if TYPE_CHECKING:
    from imap.service.stream import ClientStream

log = logging.getLogger(__name__)

_CONFIG: Final = """
dovecot_config_version = 2.4.0
mail_driver = maildir
mail_path = ~/Maildir
mail_fsync = never
sharefs_index = no
namespace inbox {
  separator = /
  inbox = yes
}
"""
# What clients begin with, and no more: each page that this touches is a page of every worker.
_SCRIPT: Final = (
    b'1 LIST "" *\r\n'
    b"2 SELECT INBOX\r\n"
    b"3 UID FETCH 1:* FLAGS\r\n"
    b"4 SELECT INBOX\r\n"
    b"5 NOOP\r\n"
    b"6 LOGOUT\r\n"
)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """perform() runs it.  serve: what workers serve.  base_dir: files are made below it."""

    serve: worker.Serve
    config: Config
    base_dir: Path

    @classmethod
    def of(cls, serve: worker.Serve, base_dir: Path) -> "Rehearsal":
        """To be made before the fork: reading a configuration takes longer than all the rest."""
        return cls(serve, load(text=_CONFIG), base_dir)

    def perform(self) -> bytes:
        """What the server said.  Nothing is logged.

        Raises OSError if files cannot be made, RuntimeError if the worker ended badly.
        """
        home = Path(tempfile.mkdtemp(prefix="rehearsal-", dir=self.base_dir))
        logging.disable()
        try:
            with in_line():
                return self._perform(home)
        finally:
            logging.disable(logging.NOTSET)
            fsops.remove_tree(home)

    def _perform(self, home: Path) -> bytes:
        control, its_control = pair()
        client, server = socket.socketpair()
        with control, client:
            with server:
                user = MailUser("nobody", os.geteuid(), os.getegid(), home=home)
                body = {"handover": encode(Handover(user, "0")), "serial": 0}
                socket.send_fds(control, [json.dumps(body).encode()], [server.fileno()])
            client.sendall(_SCRIPT)
            client.shutdown(socket.SHUT_WR)
            status = worker.main(
                its_control.detach(),
                _then(self.serve, control.close),
                config=self.config,
                settings=self.config.settings(protocol="imap"),
                lookup_path=home,
                write_timeout=1.0,
                rest_after=0.0,
                name="rehearsal",
            )
            if status:
                raise RuntimeError(f"the worker ended with status {status}")
            said = b""
            while octets := client.recv(1 << 16):
                said += octets
            return said


def _then(serve: worker.Serve, act: Callable[[], None]) -> worker.Serve:
    """As serve, and then act."""

    async def serve_and_act(
        stream: "ClientStream", handover: Handover, context: worker.WorkerContext
    ) -> None:
        try:
            await serve(stream, handover, context)
        finally:
            act()

    return serve_and_act
