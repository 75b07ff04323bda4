"""Messages for the differential test: well-formed ones, and what breaks the rules."""

from typing import Final


def _mail(text: str, encoding: str = "utf-8") -> bytes:
    return text.lstrip("\n").replace("\n", "\r\n").encode(encoding)


_HEAD = """
From: Alice Example <alice@example.org>
To: bob@example.com
Subject: Hello
Date: Mon, 2 Nov 2026 10:11:12 +0100
Message-ID: <1@example.org>
"""

_NESTED = """
From: a@example.org
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

preamble
--outer
Content-Type: multipart/alternative; boundary=inner
Content-ID: <alt@example.org>

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
--inner
Content-Type: text/html; charset="utf-8"
Content-Transfer-Encoding: base64

PGI+SGk8L2I+Cg==
--inner--
between
--outer
Content-Type: message/rfc822
Content-Disposition: attachment; filename="forwarded.eml"
Content-Description: a forwarded message

From: Carol <carol@example.net>
To: dave@example.net
Subject: Inside
Date: Sun, 1 Nov 2026 00:00:00 +0000
Content-Type: multipart/mixed; boundary=deep

--deep

first
--deep
Content-Type: application/octet-stream; name=x.bin
Content-Transfer-Encoding: base64
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Location: http://example.org/x
Content-Language: de, en-GB

AAEC
--deep--
--outer--
epilogue
"""

WELL_FORMED: Final[dict[str, bytes]] = {
    "plain": _mail(_HEAD + "\nHello Bob,\nbye\n"),
    "no newline at end": _mail(_HEAD + "\nHello Bob,\nbye"),
    "empty body": _mail(_HEAD + "\n"),
    "header only": _mail(_HEAD),
    "nested": _mail(_NESTED),
    "no subject": _mail("\nFrom: a@b.c\nTo: d@e.f\n\nx\n"),
    "missing From": _mail("\nTo: d@e.f\nSubject: x\n\nx\n"),
    "own Sender and Reply-To": _mail("\nFrom: a@b.c\nSender: s@b.c\nReply-To: r@b.c, q@b.c\n\nx\n"),
    "empty Sender": _mail("\nFrom: a@b.c\nSender:\nReply-To: \n\nx\n"),
    "two From": _mail(
        "\nFrom: a@b.c\nFrom: d@e.f\nSubject: 1\nSubject: 2\nTo: x@y\nTo: z@y\n\nx\n"
    ),
    "groups": _mail(
        "\nFrom: a@b.c\nTo: undisclosed-recipients:;\n"
        "Cc: Friends: Joe <joe@x.org>, ann@y.org; , z@z.org, Empty: ;\n\nx\n"
    ),
    "comments in addresses": _mail(
        "\nFrom: joe@x.org (Joe (the) Great)\n"
        "To: (before) ann (mid) @ (there) y.org (after), Bob (B) <bob@x.org> (late)\n\nx\n"
    ),
    "quoted names": _mail(
        '\nFrom: "Doe, \\"J\\" \\\\ John" <"john doe"@x.org>\nTo: "a b"@c.d, ""@empty.org\n'
        'Subject: with "quotes" and \\back\\slashes\\ more " than four\n\nx\n'
    ),
    "routes and literals": _mail(
        "\nFrom: <@a.org,@b.org:joe@c.org>\nTo: joe@[192.168.0.1], Ann <ann@[IPv6:::1]>\n\nx\n"
    ),
    "dotted phrase": _mail("\nFrom: John Q. Public <jqp@x.org>\nTo: J . R <a . b @ c . d>\n\nx\n"),
    "folded": _mail(
        "\nFrom: A\n <a@b.c>\nSubject: one\n two\n\tthree\nTo: a@b.c,\n b@c.d,\n\tc@d.e\n"
        "References: <1@x>\n <2@x>\nIn-Reply-To: <1@x>\n <2@x>\n\nx\n"
    ),
    "folded at once": _mail("\nFrom: a@b.c\nSubject:\n late start\nTo:\n d@e.f\n\nx\n"),
    "encoded words": _mail(
        "\nFrom: =?utf-8?Q?J=C3=BCrgen?= <j@x.org>\n"
        "Subject: =?utf-8?B?R3LDvMOfZQ==?= =?utf-8?Q?_b?=\n\nx\n"
    ),
    "8-bit header": _mail("\nFrom: Jürgen <j@x.org>\nSubject: Grüße\nTo: jü@x.org\n\nGrüße\n"),
    "latin-1 header": _mail("\nFrom: Jürgen <j@x.org>\nSubject: Grüße\n\nGrüße\n", "latin-1"),
    "8-bit body": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\n\nGrüße\n"
    ),
    "spaces around values": _mail(
        "\nFrom:   a@b.c   \nSubject: \t spaced\t out  \nDate:  x \nMessage-Id:<1>\n\nx\n"
    ),
    "space before colon": _mail("\nFrom : a@b.c\nSubject\t: x\n\nx\n"),
    "only spaces": _mail("\nFrom: a@b.c\nSubject:   \nTo:  \nDate: \nMessage-ID:\n\nx\n"),
    "content without MIME-Version": _mail(
        "\nFrom: a@b.c\nContent-Transfer-Encoding: 8bit\nContent-ID: <1>\n\nx\n"
    ),
    "type without MIME-Version": _mail(
        "\nFrom: a@b.c\nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\nx\n"
    ),
    "MIME-Version without type": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\nContent-ID: <1>\n\nx\n"
    ),
    "RFC 2231 continuations": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: application/x; \n"
        " name*0*=utf-8'de'Gr%C3%BC;\n name*1=\"100% \"; name*2*=%C3%9Fe; a=b;\n"
        " title*=us-ascii'en'This%20is; long*1=b; long*0=a; hole*0=x; hole*2=y\n"
        "Content-Disposition: attachment;\n filename*0=very; filename*1=long.txt\n\nx\n"
    ),
    "parameters with specials": _mail(
        '\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: Text/Plain; CharSet="iso-8859-1";\n'
        ' format=flowed (comment); x="a \\"b\\" c"; y=""\n'
        "Content-Disposition: INLINE\n\nx\n"
    ),
    "charset and nothing else": _mail(
        "\nFrom: a@b.c\nContent-Type: text/plain; charset=US-ASCII; format=fixed\n\nx\n"
    ),
    "text without charset": _mail(
        "\nFrom: a@b.c\nContent-Type: text/calendar; method=REQUEST\n\nx\n"
    ),
    "empty parts": _mail(
        "\nFrom: a@b.c\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n--b\n--b\nX: y\n--b\n"
        "Content-Type: text/plain\n\n\n--b--\n"
    ),
    "one part": _mail(
        "\nFrom: a@b.c\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n\n--b--\n"
    ),
    "digest": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n"
        "--b\n\nFrom: x@y.z\nSubject: first\n\none\n--b\nContent-Type: message/rfc822\n\n"
        "Subject: second\n\ntwo\n--b\nContent-Type: text/plain\n\nthree\n--b--\n"
    ),
    "rfc822 at top": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\n"
        "From: in@side\nSubject: in\n\nbody\nof it\n"
    ),
    "rfc822 in rfc822": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
        "Content-Type: message/rfc822\n\nSubject: one\nContent-Type: message/rfc822\n\n"
        "Subject: two\n\nbody\n--b--\n"
    ),
    "forwarded without body": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
        "Content-Type: message/rfc822\n\nSubject: one\nFrom: d@e.f\n\n\n--b\n"
        "Content-Type: message/rfc822\n\nSubject: two\n\n--b--\n"
    ),
    "related with signature": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/signed; micalg=pgp-sha256;\n"
        ' protocol="application/pgp-signature"; boundary="=-=-="\n\n--=-=-=\n'
        "Content-Type: text/plain\n\nsigned\n-- \nsig\n--=-=-=\n"
        'Content-Type: application/pgp-signature; name="signature.asc"\n\nxx\n--=-=-=--\n'
    ),
    "boundary with spaces": _mail(
        '\nFrom: a@b.c\nContent-Type: multipart/mixed; boundary="a b"\n\n'
        "--a b  \n\none\n--a b--  \n"
    ),
    "boundaries that share a start": _mail(
        "\nFrom: a@b.c\nContent-Type: multipart/mixed; boundary=bound\n\n--bound\n"
        "Content-Type: multipart/alternative; boundary=boundary\n\n--boundary\n\none\n"
        "--boundary\n\ntwo\n--boundary--\n--bound\n\nthree\n--bound--\n"
    ),
    "mbox lines": _mail("\nFrom: a@b.c\nSubject: x\n\nFrom nobody Mon Nov  2\n>From x\n.\n..\n"),
    "long values": _mail(
        f"\nFrom: {'n' * 300} <{'l' * 300}@{'d' * 300}>\nSubject: {'s' * 3000}\n\nx\n"
    ),
    "many recipients": _mail(
        "\nFrom: a@b.c\nTo: "
        + ",\n ".join(f"User {n} <u{n}@x.org>" for n in range(200))
        + "\n\nx\n"
    ),
}

_BROKEN: Final[dict[str, bytes]] = {
    "nothing": b"",
    "blank line": b"\r\n",
    "body alone": b"\r\nbody\r\n",
    "no colon": _mail("\nFrom: a@b.c\nno colon here\nSubject: x\n\nx\n"),
    "header is a continuation": _mail("\n continued\nFrom: a@b.c\n\nx\n"),
    "unterminated header": b"From: a@b.c\r\nSubject: x",
    "no boundary parameter": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed\n\n--b\n\nx\n--b--\n"
    ),
    "boundary never seen": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\nx\n"
    ),
    "no final boundary": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n"
    ),
    "ends at a boundary": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\n\nx\n--b\n"
    ),
    "ends in a boundary": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\n\nx\n--b"
    ),
    "same boundary twice": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n--b\n\ntwo\n--b--\n"
    ),
    "header cut by boundary": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
        "Content-Type: text/html\n--b\nContent-Type: message/rfc822\n--b\n"
        "Content-Type: message/rfc822\n\n--b\nContent-Type: message/rfc822\n\nSubject: x\n--b--\n"
    ),
    "inner never ends": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
        "Content-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--b--\n"
    ),
    "odd encodings": _mail(
        "\nFrom: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        + "".join(
            f"--b\nContent-Transfer-Encoding: {value}\nContent-Disposition: {value}\n"
            f"Content-Language: {value}\nContent-Description: {value}\nContent-ID: {value}\n\nx\n"
            for value in ("", "7bit x", "(c) base64 (d)", "x; y", "a, b", "a,", '"quoted"', "(open")
        )
        + "--b--\n"
    ),
    "NUL": b"From: a@b.c\r\nSubject: a\0b\r\nTo: \"x\0y\" <a\0@b>\r\n\r\nx\0y\r\n",
    "bare CR": b"From: a@b.c\r\nSubject: a\rb\r\n\r\nx\ry\r\r\nz\r\n",
}  # fmt: skip

_ODD_ADDRESSES: Final = (
    "joe",
    "joe@",
    "@x.org",
    "<>",
    "Joe <>",
    "Joe <joe>",
    "Joe <joe@x.org",
    "Joe joe@x.org",
    "a@b, , c@d",
    "a@b,",
    ", a@b",
    "a@b;c@d",
    "Group: a@b",
    "Group: a@b, c",
    "a@b c@d",
    '"unclosed <a@b>',
    "(unclosed a@b",
    "a@b (unclosed",
    ".x@y",
    "x..y@z",
    "x.@z",
    "a@b@c",
    "<a@b> trailing, c@d",
    "<@route>",
    "<@route:>",
    "Name <a b@c>",
    "\\x@y",
    "a@[1.2",
    ";",
    "(comment only)",
    "a@b (name\\) x) , c@d",
    "A <a@b>, B <c@d> (x)",
    "<a . b@c.d>",
    "<a.b@c . d>",
    "a . b@c.d",
    "Joe joe@x.org, c@d",
    "Joe Doe, c@d",
    "G: Joe joe@x.org, c@d; , e@f",
    "a@b, c d@e; f@g",
    "..",
    "a b <c> d",
    "a.b@c . d",
)

_ODD_TYPES: Final = (
                "text", "text/", "/plain", "text/plain; charset", "text/plain; charset=",
                "text/plain; =x", "text/plain;; charset=utf-8", "text plain", "", "x/y; a=b c; d=e",
                "application", 'text/plain; name="unclosed', "text/plain (open", "message/RFC822",
                "image/png; name==?utf-8?q?x.png?=; a=b", "text/plain; a=b; a=c",
                "text/plain;charset=utf-8;", "multipart/mixed", "message/partial; id=1",
                "text/x-\xfcn", "text/plain; x=\xfc",
)  # fmt: skip

BROKEN: Final = {
    **_BROKEN,
    **{f"address {text}": _mail(f"\nFrom: x@y.z\nTo: {text}\n\nx\n") for text in _ODD_ADDRESSES},
    **{f"type {text}": _mail(f"\nFrom: x@y.z\nContent-Type: {text}\n\nx\n") for text in _ODD_TYPES},
}

SEARCHED: Final[list[bytes]] = [
    _mail(
        '\nFrom: "Doe, John" <joe@x.org>\nTo: ann@x.org (Ann Comment)\n , "Q \\"q\\" Q" <q@x.org>\n'
        "Subject: =?utf-8?Q?Gr=C3=BC?= =?utf-8?Q?=C3=9Fe?= folded\n  twice  spaced\n"
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\npreamblia\n--b\n"
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n"
        "X-Mimehead: mimehead\n\nStra=C3=9Fe Na=C3=AFve one=\ntwo line\nbreak\n--b\n"
        'Content-Type: application/octet-stream; name="filename.bin"\n\nbinarytext\n--b\n'
        "Content-Type: message/rfc822\n\nSubject: innersubj =?utf-8?Q?=C3=BCber?=\n"
        "X-In: innerfield\n\ninnerbody\n--b\nContent-Type: text/html\n\n<b>ht</b>ml &uuml;\n"
        "--b--\nepiloguia\n"
    ),
    _mail("\nSubject: no date\nX-Empty:\n\nx\n"),
    _mail("\nSubject: bad date\nDate: tomorrow\n\nx\n"),
    _mail("\nSubject: dated\nDate: Mon, 2 Nov 2020 23:30:00 -0800\n\nx\n"),
    _mail(
        "\nSubject: ü\nDate: 1 Dec 21 00:10 GMT (comment)\n"
        "Content-Type: text/plain; charset=iso-8859-1\n\nlatin grüß\n",
        "latin-1",
    ),
    _mail("\nSubject: utf ü\nDate: Fri, 05 Mar 1999 23:00:00\n\nutf grüß\n"),
    _mail("\nSubject: coded\nContent-Type: text/plain; charset=utf-8\n"
          "Content-Transfer-Encoding: base64\n\nZ3LDvMOfZSBh\ndXMgYmFzZTY0Cg==\n"),
]  # fmt: skip
