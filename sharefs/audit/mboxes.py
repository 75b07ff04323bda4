"""mbox files behind symbolic links, on a host where dotlocks alone protect them.

Only reads.  A dotlock lies beside the name by which the file was opened: who comes through the link
and who does not never meet.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sharefs.audit.viewing import ViewerContext
from sharefs.config import Config
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser

SETTING: Final = "mbox_write_locks"
_DEFAULT: Final = "dotlock fcntl"  # Dovecot's
_DOTLOCKS: Final = frozenset({"dotlock", "dotlock_try"})


def linked_mboxes(
    config: Config, users: Iterable[MailUser], homes: HomeLookup
) -> Iterator[tuple[str, str]]:
    """(path of the link, why its lock protects nothing), each once."""
    locks = (config.audited(SETTING) or _DEFAULT).replace(",", " ").split()
    if not _DOTLOCKS.issuperset(locks):
        return
    seen: set[str] = set()
    for user in users:
        try:
            context = ViewerContext(config, user, homes)
        except SharingError:
            continue  # user-unusable says why
        for namespace in context.namespaces.fixed:
            location = namespace.location
            if location.driver != "mbox":
                continue
            for path in _links(location.path, location.inbox_path):
                if path not in seen:
                    seen.add(path)
                    yield path, f"{_target(path)}; {SETTING} = {' '.join(locks)}"


def _links(root: Path, inbox: Path | None) -> Iterator[str]:
    """Links to files: INBOX, and what lies in the mail directory.  No link is gone through."""
    if inbox is not None and _leads_to_a_file(str(inbox)):
        yield str(inbox)
    for directory, _, names in os.walk(root):
        for name in sorted(names):
            path = os.path.join(directory, name)
            if _leads_to_a_file(path):
                yield path


def _leads_to_a_file(path: str) -> bool:
    try:
        return os.path.islink(path) and stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _target(path: str) -> str:
    try:
        return f"a link to {os.readlink(path)}"
    except OSError as error:
        return f"a link that went away: {error.strerror}"
