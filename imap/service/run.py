"""The server, put together: from a configuration file to a running master."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imap.service import auth, spawner
from imap.service.auth import Directory
from imap.service.from_config import derive
from imap.service.generation import Program
from imap.service.master import Master
from sharefs.config import Config, Severity, load
from sharefs.identity.from_config import identity_settings
from sharefs.identity.passdb import PasswordDatabase
from sharefs.identity.userdb import UserDatabase

if TYPE_CHECKING:
    from imap.service.worker import Serve

log = logging.getLogger(__name__)


def imap_session() -> "Serve":
    """The session that workers serve.  Imported here and not above: the master needs none of it."""
    from imap.service import connection

    return connection.serve


def program_of(
    config: Config,
    *,
    foreground: bool,
    session: "Callable[[], Serve]" = imap_session,
    rest_after: float | None = None,
) -> Program:
    """What the master is to run for this configuration.  Raises SharingError.

    session: called in the spawner; what it imports, all workers share.  rest_after: seconds,
    instead of what the configuration says.
    """
    derived = derive(config, foreground=foreground)
    settings = derived.settings
    if rest_after is not None:
        settings = replace(settings, rest_after=rest_after)
    warnings = [*derived.warnings]
    warnings += [str(p) for p in config.problems if p.severity is not Severity.ERROR]
    identity = identity_settings(config)

    def make_directory() -> Directory:
        return Directory(PasswordDatabase(identity), UserDatabase(identity))

    def run_auth(control_fd: int) -> int:
        return auth.main(control_fd, make_directory, threads=settings.auth_threads)

    def run_spawner(control_fd: int) -> int:
        from imap.service import worker
        from imap.service.rehearsal import Rehearsal

        serve_session = session()
        plain = config.settings(protocol="imap")

        def run_worker(worker_fd: int, name: str) -> int:
            return worker.main(
                worker_fd,
                serve_session,
                config=config,
                settings=plain,
                lookup_path=settings.lookup_path,
                write_timeout=settings.write_timeout,
                rest_after=settings.rest_after,
                name=name,
            )

        rehearsal = Rehearsal.of(serve_session, settings.base_dir)

        def rehearse() -> None:
            rehearsal.perform()

        return spawner.main(control_fd, settings, run_worker, rehearse)

    return Program(settings, run_auth, run_spawner, tuple(warnings))


def serve(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    foreground: bool,
    on_ready: Callable[[], None],
    session: "Callable[[], Serve]" = imap_session,
    rest_after: float | None = None,
) -> int:
    """Run the server until it is told to end.  Exit status.  Raises SharingError."""

    def load_program() -> Program:
        return program_of(
            load(path, overrides=overrides),
            foreground=foreground,
            session=session,
            rest_after=rest_after,
        )

    return Master(load_program, on_ready=on_ready).run()


def warnings_of(path: Path | None, overrides: Sequence[str] = ()) -> Sequence[str]:
    """What the server will not do as the configuration seems to want it.  Raises SharingError."""
    return derive(load(path, overrides=overrides), foreground=False).warnings


def pid_path(path: Path | None, overrides: Sequence[str] = ()) -> Path:
    """Where a server with this configuration writes its pid.  Raises SharingError."""
    return derive(load(path, overrides=overrides), foreground=False).settings.pid_path
