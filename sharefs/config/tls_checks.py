"""Warnings about the files that TLS needs: a server that cannot read them does not start.

Warnings and no errors, because everything but the server works without them, and because a
configuration may be checked on a machine, or by a user, where they are not.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from sharefs.config.checked import NOWHERE, Checked

_FILES: Final = {
    "ssl_server_cert_file": "certificate",
    "ssl_server_key_file": "key",
}


def tls_file(checked: Checked) -> None:
    if checked.settings.ssl == "no":
        return
    for setting, what in _FILES.items():
        path = checked.settings.get(setting)
        if not path or path.lstrip().startswith("-----BEGIN"):
            continue  # none is wanted, or its text stands in the configuration
        trouble = _trouble(path)
        if trouble:
            checked.problems.warning(
                "tls-file",
                checked.places.get(setting, NOWHERE),
                f"{setting}: the {what} {path} {trouble[0]}, so the server cannot start",
                trouble[1].format(setting=setting, what=what, path=path),
            )


def _trouble(path: str) -> tuple[str, str] | None:
    """What is wrong with a file, and the remedy.  None: it can be read, or is not ours to read."""
    remedy = "put the {what} there, write its true path, or ssl = no for a server without TLS"
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return "is not a file", remedy
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
    except PermissionError as error:
        # The server reads them as the superuser; that others may not read the key is as it must.
        if os.geteuid() != 0:
            return None
        return f"cannot be read by root: {error.strerror}", (
            "it lies on a file system that keeps root out: copy it to this host's own"
        )
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            return f"is a link to {os.readlink(path)}, which does not exist", remedy
        return ("does not exist" if error.errno == errno.ENOENT else str(error.strerror)), remedy
    return None


TLS_CHECKS: Final[tuple[Callable[[Checked], None], ...]] = (tls_file,)
