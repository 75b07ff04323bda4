"""Stored passwords against typed ones: one row per scheme, right, wrong and broken."""

import base64
import contextlib
import hashlib

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.identity import schemes
from sharefs.identity.schemes import BadStoredPassword, verify

PASSWORD = b"Secret 1"


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def digest(algorithm: str, octets: bytes) -> bytes:
    return hashlib.new(algorithm, octets).digest()


# Made by `doveadm pw -s SCHEME -p 'Secret 1'` (2.3.19), or from the definition of the scheme.
MATCHING = {
    "PLAIN": "{PLAIN}Secret 1",
    "CLEARTEXT": "{cleartext}Secret 1",
    "PLAIN.b64": "{PLAIN.b64}" + b64(PASSWORD),
    "PLAIN.hex": "{PLAIN.HEX}" + PASSWORD.hex(),
    "DES-CRYPT": "{DES-CRYPT}5/x6/C/bFQud.",
    "CRYPT without a scheme": "5/x6/C/bFQud.",
    "MD5-CRYPT": "{MD5-CRYPT}$1$Fd2PHcFE$JavNaSX4yzuxAdziZqCUY0",
    "MD5-CRYPT without a scheme": "$1$Fd2PHcFE$JavNaSX4yzuxAdziZqCUY0$ignored",
    "MD5 as crypt": "{MD5}$1$Fd2PHcFE$JavNaSX4yzuxAdziZqCUY0",
    "MD5 as digest": "{MD5}3827558347b988089547698445ea8dc4",
    "SHA256-CRYPT": "{SHA256-CRYPT}$5$OnF0UfAENopj2cM1$PTFTV9GxDVD5TzyZ4cpdA1jH2DMgJVt0aOqI4rL858D",
    "SHA512-CRYPT": "{SHA512-CRYPT}$6$QPnej0sACraCEUey$h3U23Mr0NICFePPGoPazs5fLAW3O9bppAeOi2P3ooI1F"
    "75D1I.JmUWm2n7i5PKgH72OsEPBL2krT.DiTGYVuJ1",
    "BLF-CRYPT": "{BLF-CRYPT}$2y$05$s9ycen7.Kj.hKL4iEEyuEeUk90lQzuwcbbPjwWnShxevP13mWYxo6",
    "BCRYPT": "{BCRYPT}$2y$05$s9ycen7.Kj.hKL4iEEyuEeUk90lQzuwcbbPjwWnShxevP13mWYxo6",
    "PLAIN-MD5": "{PLAIN-MD5}3827558347b988089547698445ea8dc4",
    "LDAP-MD5": "{LDAP-MD5}OCdVg0e5iAiVR2mEReqNxA==",
    "SHA": "{SHA}cTagQwEZ03sA+XIxd7wU605aOoQ=",
    "SHA1": "{SHA1}cTagQwEZ03sA+XIxd7wU605aOoQ=",
    "SHA in hex, told by its length": "{SHA}" + digest("sha1", PASSWORD).hex(),
    "SHA256": "{SHA256}WhxFRzqWOYHgoYKBWpQxyqa6MsfEZPmqjiTpucFPXfc=",
    "SHA256.hex": "{SHA256.hex}" + digest("sha256", PASSWORD).hex(),
    "SHA512": "{SHA512}" + b64(digest("sha512", PASSWORD)),
    "SMD5": "{SMD5}O4f6lnK2VIh7yRfduEWwL9e23bA=",
    "SSHA": "{SSHA}mjP8rw53tWe9ycyhw6cg6H3s5J/wi4vh",
    "SSHA256": "{SSHA256}SRT5QHcj8tZypBPH9qILFRar7gTAxIagwd1VLUuMJlUcLsEe",
    "SSHA512.hex": "{SSHA512.hex}" + (digest("sha512", PASSWORD + b"salt") + b"salt").hex(),
    "PBKDF2": "{PBKDF2}$1$DCtq5R1x4AdD3Ao4$5000$098f440142a5edfc2124d02262d012aa15295d01",
    "SCRAM-SHA-1": "{SCRAM-SHA-1}4096,675J/tbIP6OE3oo7ipOJbQ==,ot28lJ3I7UHKcIhNAUzI1vfQsek=,"
    "ilkO4gOJiwqZ7CJnxIqbP3L+n5k=",
    "SCRAM-SHA-256": "{SCRAM-SHA-256}4096,liJbe6w432OXffDTMbBnrQ==,"
    "FYFYQn5AUa8yh8Td6h4Dfv8lcJzIUI6wFL1EXAweD0s=,eByUooKwVj0umYh7+3mAaRxF1hGpwCB9vR9KCgS1wT0=",
    "ARGON2I": "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$4ugfjbntiQ30VI+XcNn3jw$"
    "u3gEru7tu6GV67YRqMii1pgH5q0rJVoHZi2oB2GdwRg",
    "ARGON2ID": "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$Di0cdQxSz/7cXijP1nsGvA$"
    "bolLgmrEt/55d0+qg6lVMaabHVc3qKiT1Fa+RonJAjQ",
}

BROKEN = {
    "unknown scheme": "{ROT13}Frperg 1",
    "unknown encoding": "{SHA.b32}AAAA",
    "not base64": "{SHA}***",
    "not hex": "{SHA256.hex}zz",
    "too short for the digest": "{SHA256}cTagQwEZ03sA+XIxd7wU605aOoQ=",
    "no room for a salt": "{SSHA}cTagQwEZ03sA+XIxd7wU605aOoQ=",
    "bcrypt cut short": "{BLF-CRYPT}$2y$05$s9ycen7",
    "argon2 cut short": "{ARGON2ID}$argon2id$v=19$m=65536",
    "pbkdf2 without rounds": "{PBKDF2}$1$salt",
    "scram without keys": "{SCRAM-SHA-1}4096,salt",
}

LOCKED = ["", "!", "*", "x", "!!", "*LK*", "*0", "!$6$abc$def", "{PLAIN}", "{CRYPT}", "{CRYPT}*"]


@pytest.mark.parametrize("stored", MATCHING.values(), ids=MATCHING)
def test_only_the_right_password_matches(stored: str) -> None:
    assert verify(PASSWORD, stored)
    for wrong in (b"", b"secret 1", b"Secret_1", b"Secret 1\0", PASSWORD * 200):
        assert not verify(wrong, stored), wrong


@pytest.mark.parametrize("stored", BROKEN.values(), ids=BROKEN)
def test_what_nobody_could_match_is_said(stored: str) -> None:
    with pytest.raises(BadStoredPassword):
        verify(PASSWORD, stored)


@pytest.mark.parametrize("stored", LOCKED)
def test_locked_entries_match_nothing(stored: str) -> None:
    for password in (b"", b"!", b"*", b"x", b"*0", stored.encode()):
        assert not verify(password, stored), password


def test_yescrypt_matches() -> None:
    stored = "$y$j9T$abcdefgh$UGYCVcUwcoG0k8SZZ.Uz3i0RYQNy1YmYj4I4poBPer2"
    assert verify(b"pw", stored)
    assert not verify(b"pW", stored)


def test_bcrypt_looks_at_72_octets_as_crypt_does() -> None:
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert verify(b"x" * 72, stored)
    assert verify(b"x" * 72 + b"more", stored)
    assert not verify(b"x" * 71, stored)


def test_a_password_that_is_not_utf8_matches_where_octets_count() -> None:
    latin = "pässword".encode("latin-1")
    assert verify(latin, "{SHA}" + b64(digest("sha1", latin)))
    assert not verify(latin, MATCHING["SHA512-CRYPT"])


def test_default_scheme_is_used_only_without_a_scheme() -> None:
    assert verify(b"{x", "{x", default="PLAIN")
    assert verify(b"pw", "pw", default="PLAIN")
    assert not verify(b"pw", "pw", default="CRYPT")


@given(st.binary(max_size=40), st.text(max_size=60), st.sampled_from(sorted(schemes.SCHEMES)))
def test_garbage_is_an_answer_or_a_bad_stored_password(
    password: bytes, text: str, scheme: str
) -> None:
    if scheme == "PLAIN" and text.encode() == password:
        return
    for stored in (text, f"{{{scheme}}}{text}", f"{{{scheme}.hex}}{text}"):
        with contextlib.suppress(BadStoredPassword):
            verify(password, stored)
