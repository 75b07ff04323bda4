"""Binding the ports and the lookup socket.  The master's work, as it may need root."""

import errno
import os
import socket
from pathlib import Path
from typing import Final

from imap.service.settings import ListenerSettings
from sharefs import fsops
from sharefs.errors import Code, SharingError

_BACKLOG: Final = (
    511  # connections the kernel holds for us; more than a busy accept loop lets pile up
)
_NOT_HERE: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def bind(listener: ListenerSettings) -> socket.socket | None:
    """A listening socket.  None: the host has no such address family (`listen = *, ::`).

    Raises SharingError that names the port, what is wrong, and the remedy.
    """
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    any_address = listener.address in ("*", "::", "[::]")
    address = {"*": "0.0.0.0", "[::]": "::"}.get(listener.address, listener.address)
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        if any_address and exc.errno in _NOT_HERE:
            return None
        raise _refused(listener, exc) from exc
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, listener.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        if any_address and exc.errno in _NOT_HERE:
            return None
        raise _refused(listener, exc) from exc
    return sock


def _refused(listener: ListenerSettings, exc: OSError) -> SharingError:
    remedy = {
        errno.EADDRINUSE: "another server has the port: stop it, or change the inet_listener",
        errno.EACCES: "ports below 1024 need root: start as root, or use ports such as 1143",
        errno.EPERM: "ports below 1024 need root: start as root, or use ports such as 1143",
        errno.EADDRNOTAVAIL: "this host does not have the address: see `listen`",
    }.get(exc.errno or 0, "see inet_listener in service imap-login")
    where = f"{listener.address} port {listener.port}"
    return SharingError(
        Code.UNAVAILABLE,
        f"cannot listen on {where} for {listener.name}: {exc.strerror}; {remedy}",
    )


def bind_lookup(path: Path) -> socket.socket:
    """The socket where any process of the host may ask for homes.  Replaces a left-over one.

    Raises SharingError.
    """
    try:
        fsops.unlink(path, missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as exc:
        raise _lookup_refused(path, exc) from exc
    try:
        sock.bind(os.fspath(path))
        fsops.open_socket_to(path, 0o666)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise _lookup_refused(path, exc) from exc
    return sock


def _lookup_refused(path: Path, exc: OSError) -> SharingError:
    return SharingError(
        Code.UNAVAILABLE, f"cannot make {path}: {exc.strerror or exc}; see base_dir"
    )
