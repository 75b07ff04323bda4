"""TLS: contexts from settings, and pumping octets between a TLS client and its worker."""

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import trio

from sharefs.errors import Code, SharingError

_CHUNK: Final = 32 * 1024  # octets; a TLS record carries 16 KiB
_CLOSE_PATIENCE: Final = 2.0  # seconds for the last octets and close_notify

# ssl_min_protocol's words.  Older protocols are not offered (RFC 8996).
PROTOCOLS: Final = {
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
    "LATEST": ssl.TLSVersion.TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The server's certificate chain and key, and the rules of the handshake.

    certificate, key: a path, or the PEM text itself (the 2.3 form `ssl_cert = </path` reads
    the file into the setting).  ciphers: OpenSSL's list for TLS 1.2; empty: OpenSSL's default.
    """

    certificate: str
    key: str = field(repr=False)
    min_protocol: str = "TLSv1.2"
    ciphers: str = ""


def _no_passphrase() -> str:
    raise SharingError(Code.CANNOT, "the TLS key is protected by a passphrase")


@contextlib.contextmanager
def _as_file(value: str) -> Iterator[str]:
    """A path that OpenSSL can read value from.  PEM text goes through a file without a name."""
    if not value.lstrip().startswith("-----BEGIN"):
        yield value
        return
    fd = os.memfd_create("sharefs-pem", os.MFD_CLOEXEC)
    try:
        os.write(fd, value.encode())
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _label(value: str) -> str:
    return "(from the configuration)" if "\n" in value else value


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """A server context.  Raises SharingError saying which file or value cannot be used, and why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if files.min_protocol not in PROTOCOLS:
        raise SharingError(
            Code.INVALID,
            f"ssl_min_protocol = {files.min_protocol}: use one of {', '.join(PROTOCOLS)}",
        )
    context.minimum_version = PROTOCOLS[files.min_protocol]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        if files.ciphers:
            context.set_ciphers(files.ciphers)
        with _as_file(files.certificate) as certificate, _as_file(files.key) as key:
            context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ssl.SSLError) as exc:
        raise SharingError(
            Code.UNAVAILABLE,
            f"TLS certificate {_label(files.certificate)} with key {_label(files.key)}"
            f" cannot be loaded: {exc}",
        ) from exc
    return context


def server_stream(
    transport: trio.abc.Stream, context: ssl.SSLContext
) -> trio.SSLStream[trio.abc.Stream]:
    """TLS over transport.  A client that ends without close_notify has broken its connection."""
    return trio.SSLStream(transport, context, server_side=True)


async def pump(client: trio.abc.Stream, worker: trio.SocketStream) -> None:
    """Carry octets both ways until the worker has closed or the client's connection broke.

    A side that does not read stops the other side's flow and nothing else: one chunk per direction
    is held.  A client that ends its half gets what the worker still has to say.  Closes both.
    """

    async def upwards() -> None:
        while octets := await client.receive_some(_CHUNK):
            await worker.send_all(octets)
        await worker.send_eof()

    async def downwards(scope: trio.CancelScope) -> None:
        while octets := await worker.receive_some(_CHUNK):
            await client.send_all(octets)
        scope.cancel()  # the session is over, whatever the client still wants to say

    async def guarded(scope: trio.CancelScope, upward: bool) -> None:
        try:
            await (upwards() if upward else downwards(scope))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded, nursery.cancel_scope, True)
            nursery.start_soon(guarded, nursery.cancel_scope, False)
    finally:
        with trio.move_on_after(_CLOSE_PATIENCE, shield=True):
            await worker.aclose()
            with contextlib.suppress(trio.BrokenResourceError):
                await client.aclose()
