"""Stored passwords: `{SCHEME}text` verified against what somebody typed.  No files, no users.

Scheme names, aliases and encodings are Dovecot's: `{SCHEME.b64}`, `{SCHEME.base64}` and
`{SCHEME.hex}`, names in any case.  verify() takes about the same time whether the password is right
or wrong; who calls it for a user that does not exist is passdb.py's business.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import argon2
import bcrypt
import crypt_r

# Octets.  The longest password that is tried at all: longer ones only cost time.
MAX_PASSWORD: Final = 1024

# bcrypt looks at this many octets; crypt(3) drops the rest silently, the bcrypt package refuses.
_BCRYPT_OCTETS: Final = 72


class BadStoredPassword(ValueError):
    """What is stored cannot be verified by anybody: unknown scheme, broken encoding or hash."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """check(password, stored octets) -> bool.  size: of the stored octets, 0 if it varies."""

    check: Callable[[bytes, bytes], bool]
    encoded: bool = False  # stored as hex or base64 unless the name says otherwise
    size: int = 0


def split_scheme(stored: str, default: str) -> tuple[str, str]:
    """Cut `{SCHEME}text` into its halves; without a scheme it is default.

    `$1$salt$hash` needs no scheme and may be followed by `$anything`, which is ignored.
    """
    if stored.startswith("$1$"):
        return "MD5-CRYPT", "$".join(stored.split("$")[:4])
    if stored.startswith("{"):
        name, brace, text = stored[1:].partition("}")
        if brace:
            return name, text
    return default, stored


def verify(password: bytes, stored: str, *, default: str = "CRYPT") -> bool:
    """Whether password is the one that stored was made from.

    An empty stored text matches nothing.  Raises BadStoredPassword if no password could match.
    """
    name, text = split_scheme(stored, default)
    scheme, octets = _decode(name, text)
    if b"\0" in octets and not scheme.encoded:
        raise BadStoredPassword(f"{{{name}}} has a NUL character")  # C would stop reading there
    if len(password) > MAX_PASSWORD or b"\0" in password:
        return False
    return scheme.check(password, octets)


def check_scheme(name: str) -> None:
    """Raise BadStoredPassword unless name (with or without encoding) is one we can verify."""
    _lookup(name)


def _lookup(name: str) -> tuple[Scheme, str]:
    base, _, encoding = name.partition(".")
    scheme = SCHEMES.get(base.upper())
    if scheme is None:
        raise BadStoredPassword(f"password scheme {{{base}}} is not known")
    if encoding.lower() not in {"", "b64", "base64", "hex"}:
        raise BadStoredPassword(f"{{{name}}}: the encoding is hex, b64 or base64, not {encoding}")
    return scheme, encoding.lower()


def _decode(name: str, text: str) -> tuple[Scheme, bytes]:
    scheme, encoding = _lookup(name)
    octets = text.encode("utf-8", "surrogateescape")
    if not encoding and not scheme.encoded:
        return scheme, octets
    # Without a suffix hex is told from base64 by its length, as Dovecot does.
    as_hex = encoding == "hex" or (not encoding and scheme.size and len(text) == 2 * scheme.size)
    try:
        raw = binascii.unhexlify(octets) if as_hex else base64.b64decode(octets, validate=True)
    except (ValueError, binascii.Error) as exc:
        kind = "hexadecimal" if as_hex else "base64"
        raise BadStoredPassword(f"{{{name}}} is followed by something not {kind}") from exc
    if scheme.size and len(raw) != scheme.size:
        raise BadStoredPassword(f"{{{name}}} wants {scheme.size} octets and has {len(raw)}")
    return scheme, raw


def _same(got: bytes, want: bytes) -> bool:
    return hmac.compare_digest(got, want)


def _plain(password: bytes, stored: bytes) -> bool:
    return bool(stored) and _same(password, stored)


def _crypt(password: bytes, stored: bytes) -> bool:
    if not stored:
        return False  # crypt(3) without a salt may answer with an empty text: that must not match
    if stored.startswith((b"$2a$", b"$2b$", b"$2y$")):
        return _bcrypt(password, stored)
    try:
        made = crypt_r.crypt(password.decode(), stored.decode())
    except UnicodeDecodeError:
        return False
    except OSError as exc:
        raise BadStoredPassword(f"crypt(3) refused the stored hash: {exc.strerror}") from exc
    # crypt(3) says "not for me" with *0 or *1: a locked entry such as "!" or "*" ends here.
    if made is None or made.startswith("*"):
        return False
    return _same(made.encode(), stored)


def _bcrypt(password: bytes, stored: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_BCRYPT_OCTETS], stored)
    except ValueError as exc:
        raise BadStoredPassword(f"the bcrypt hash does not parse: {exc}") from exc


def _argon2(password: bytes, stored: bytes) -> bool:
    variant = argon2.Type.ID if stored.startswith(b"$argon2id$") else argon2.Type.I
    try:
        return argon2.low_level.verify_secret(stored, password, variant)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except argon2.exceptions.VerificationError as exc:
        raise BadStoredPassword(f"the argon2 hash does not parse: {exc}") from exc


def _digest(algorithm: str) -> Callable[[bytes, bytes], bool]:
    def check(password: bytes, stored: bytes) -> bool:
        return _same(hashlib.new(algorithm, password).digest(), stored)

    return check


def _salted(algorithm: str) -> Callable[[bytes, bytes], bool]:
    """The digest of password and salt, followed by the salt (RFC 2307 userPassword, SSHA)."""
    size = hashlib.new(algorithm).digest_size

    def check(password: bytes, stored: bytes) -> bool:
        if len(stored) <= size:
            raise BadStoredPassword(f"a salted {algorithm} password has more than {size} octets")
        digest, salt = stored[:size], stored[size:]
        return _same(hashlib.new(algorithm, password + salt).digest(), digest)

    return check


def _md5(password: bytes, stored: bytes) -> bool:
    """`{MD5}` means MD5-CRYPT or, for old files, the plain digest in hex or base64."""
    if stored.startswith(b"$1$"):
        return _crypt(password, stored)
    return verify(password, "{PLAIN-MD5}" + stored.decode("ascii", "replace"))


def _pbkdf2(password: bytes, stored: bytes) -> bool:
    """`$1$<salt>$<rounds>$<40 hex digits>`: Dovecot's form, always with SHA-1."""
    try:
        _, version, salt, rounds, digest = stored.split(b"$")
        want, count = binascii.unhexlify(digest), int(rounds)
        if version != b"1" or not 0 < count <= 10_000_000:
            raise ValueError(f"version {version!r}, {count} rounds")
    except ValueError as exc:
        raise BadStoredPassword(f"a PBKDF2 password is $1$salt$rounds$digest: {exc}") from exc
    return _same(hashlib.pbkdf2_hmac("sha1", password, salt, count, len(want)), want)


def _scram(algorithm: str) -> Callable[[bytes, bytes], bool]:
    """`iterations,salt,StoredKey,ServerKey` of RFC 5803, in Dovecot's spelling."""

    def check(password: bytes, stored: bytes) -> bool:
        try:
            rounds, salt, stored_key, _ = stored.split(b",")
            count, key = int(rounds), base64.b64decode(stored_key, validate=True)
            salt = base64.b64decode(salt, validate=True)
            if not 0 < count <= 10_000_000:
                raise ValueError(f"{count} iterations")
        except ValueError as exc:
            raise BadStoredPassword(f"a SCRAM password has four parts: {exc}") from exc
        salted = hashlib.pbkdf2_hmac(algorithm, password, salt, count)
        client = hmac.digest(salted, b"Client Key", algorithm)
        return _same(hashlib.new(algorithm, client).digest(), key)

    return check


_CRYPT: Final = Scheme(_crypt)
_PLAIN: Final = Scheme(_plain)

SCHEMES: Final = {
    **dict.fromkeys(["PLAIN", "CLEAR", "CLEARTEXT"], _PLAIN),
    **dict.fromkeys(
        [
            "CRYPT",
            "DES-CRYPT",
            "MD5-CRYPT",
            "SHA256-CRYPT",
            "SHA512-CRYPT",
            "BLF-CRYPT",
            "YESCRYPT",
        ],
        _CRYPT,
    ),
    "BCRYPT": Scheme(_bcrypt),
    "MD5": Scheme(_md5),
    "PLAIN-MD5": Scheme(_digest("md5"), encoded=True, size=16),
    "LDAP-MD5": Scheme(_digest("md5"), encoded=True, size=16),
    "SHA": Scheme(_digest("sha1"), encoded=True, size=20),
    "SHA1": Scheme(_digest("sha1"), encoded=True, size=20),
    "SHA256": Scheme(_digest("sha256"), encoded=True, size=32),
    "SHA512": Scheme(_digest("sha512"), encoded=True, size=64),
    "SMD5": Scheme(_salted("md5"), encoded=True),
    "SSHA": Scheme(_salted("sha1"), encoded=True),
    "SSHA256": Scheme(_salted("sha256"), encoded=True),
    "SSHA512": Scheme(_salted("sha512"), encoded=True),
    "PBKDF2": Scheme(_pbkdf2),
    "SCRAM-SHA-1": Scheme(_scram("sha1")),
    "SCRAM-SHA-256": Scheme(_scram("sha256")),
    "ARGON2I": Scheme(_argon2),
    "ARGON2ID": Scheme(_argon2),
    "ARGON2": Scheme(_argon2),
}
