"""One script of IMAP commands for both servers: the same answers, and the same tree after it."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.differential.twins import Tree, tree_of, twins
from tests.robust.world import UIDS, make_maildir, put_file

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser, pytest.mark.slow]

MAIL: Final = [
    b"From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: one\n"
    b"Date: Sat, 21 Nov 2026 09:00:00 +0000\nMessage-ID: <1@example.org>\n\nfirst text\n",
    b"From: carl@example.org\nSubject: =?utf-8?q?zw=C3=B6lf?=\nMIME-Version: 1.0\n"
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nplain\n--b\n"
    b"Content-Type: image/png; name=x.png\nContent-Transfer-Encoding: base64\n\nAAAA\n--b--\n",
    b"Subject: three\n\nthe third has no sender\n",
]


def prepare(top: Path) -> None:
    """alice shares two mailboxes; one is public for reading, one for posting, one hidden."""
    alice, homes = UIDS["alice"], top / "home"
    root = homes / "alice" / "Maildir"
    make_maildir(root / ".Work", alice, "user=bob lrwstipekx\nuser=carol lr\n", MAIL)
    make_maildir(root / ".Work.Sub", alice, "user=bob lrs\n", MAIL[:1])
    make_maildir(root / ".Post", alice, "user=bob lp\nuser=carol li\n")
    make_maildir(root / ".Secret", alice, "", MAIL[:1])
    make_maildir(top / "public" / ".info", 0, "authenticated lr\nuser=alice lrwstipekxa\n", MAIL)
    make_maildir(top / "public" / ".drop", 0, "authenticated li\n")
    make_maildir(top / "public" / ".hidden", 0, "user=alice lrwstipekxa\n", MAIL[:1])
    put_file(top / "db" / "shared-mailboxes.db", b"".join(
        b"shared/shared-boxes/user/%b/alice\n1\n" % name for name in (b"bob", b"carol")
    ), 0)  # fmt: skip


NEW: Final = b"Subject: new\r\n\r\nnew text\r\n"
LITERAL: Final = b"{%d+}\r\n%b" % (len(NEW), NEW)

RECONNECT: Final = b"RECONNECT"  # no command: the user logs in anew on both sides
SCRIPT: Final[list[tuple[str, bytes]]] = [
    ("alice", b"NAMESPACE"),
    ("alice", b'LIST "" *'),
    ("bob", b'LIST "" *'),
    ("carol", b'LIST "" *'),
    ("dave", b'LIST "" *'),
    ("bob", b'LIST "" %'),
    ("bob", b'LIST "" shared/%'),
    ("bob", b'LIST "" shared/alice/*'),
    ("bob", b'LIST "shared/alice/" %'),
    ("bob", b'LIST "" Public/*'),
    ("bob", b'LIST "" ""'),
    ("alice", b'LIST (SPECIAL-USE) "" *'),
    ("bob", b'LSUB "" *'),
    ("bob", b"SUBSCRIBE shared/alice/Work"),
    ("bob", b"SUBSCRIBE Public/info"),
    ("bob", b"SUBSCRIBE shared/alice/Secret"),
    ("bob", b"SUBSCRIBE Nowhere"),
    ("bob", b'LSUB "" *'),
    ("bob", b'LSUB "" %'),
    ("bob", b'LIST (SUBSCRIBED) "" *'),
    ("bob", b"UNSUBSCRIBE Nowhere"),
    ("bob", b"MYRIGHTS shared/alice/Work"),
    ("carol", b"MYRIGHTS shared/alice/Work"),
    ("dave", b"MYRIGHTS shared/alice/Work"),
    ("alice", b"MYRIGHTS Work"),
    ("alice", b"MYRIGHTS INBOX"),
    ("bob", b"MYRIGHTS Public/info"),
    ("alice", b"GETACL Work"),
    ("bob", b"GETACL shared/alice/Work"),
    ("dave", b"GETACL shared/alice/Work"),
    ("alice", b"LISTRIGHTS Work bob"),
    ("bob", b"STATUS shared/alice/Work (MESSAGES UNSEEN UIDNEXT UIDVALIDITY)"),
    ("carol", b"STATUS shared/alice/Post (MESSAGES)"),
    ("dave", b"STATUS shared/alice/Work (MESSAGES)"),
    ("bob", b"SELECT shared/alice/Secret"),
    ("bob", b"SELECT shared/alice/Nowhere"),
    ("bob", b"SELECT shared/nobody/INBOX"),
    ("bob", b"SELECT shared/alice/Post"),
    ("bob", b"SELECT Public/hidden"),
    ("bob", b"SELECT shared/alice/Work"),
    ("bob", b"FETCH 1:* (UID FLAGS RFC822.SIZE)"),
    ("bob", b"FETCH 1:3 ENVELOPE"),
    ("bob", b"FETCH 2 (BODY BODYSTRUCTURE)"),
    ("bob", b"FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]"),
    ("bob", b"FETCH 2 (BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[TEXT]<0.20>)"),
    ("bob", b"STATUS Public/info (MESSAGES SIZE)"),
    ("bob", b"FETCH 2 (BINARY.PEEK[1] BINARY.SIZE[2] BINARY.PEEK[2]<0.2>)"),
    ("bob", b"FETCH 2 BINARY.PEEK[]"),
    ("bob", b"FETCH 1:3 PREVIEW"),
    ("bob", b"SEARCH SAVEDATESUPPORTED SAVEDBEFORE 1-Jan-2020"),
    ("bob", b"SEARCH NOT SAVEDBEFORE 1-Jan-2020"),
    ("bob", b"FETCH 1 BODY[TEXT]"),
    ("bob", b"FETCH 9 FLAGS"),
    ("bob", b"UID FETCH 9 FLAGS"),
    ("bob", b"FETCH 1 NONSENSE"),
    ("bob", b"SEARCH UNSEEN"),
    ("bob", b"SEARCH SUBJECT one"),
    ("bob", b"SEARCH CHARSET UTF-8 SUBJECT {6+}\r\nzw\xc3\xb6lf"),
    ("bob", b"SEARCH CHARSET KLINGON SUBJECT x"),
    ("bob", b"SEARCH BODY third"),
    ("bob", b"UID SEARCH NOT SEEN OR LARGER 200 SUBJECT three"),
    ("bob", b"STORE 2 +FLAGS (\\Seen \\Flagged)"),
    ("bob", b"STORE 3 +FLAGS.SILENT ($Label1)"),
    ("bob", b"STORE 3 FLAGS (\\Answered custom)"),
    ("bob", b"STORE 3 -FLAGS (nothing)"),
    ("bob", b"FETCH 1:* FLAGS"),
    ("alice", b"SELECT Work"),
    ("alice", b"FETCH 1:* FLAGS"),
    ("carol", b"SELECT shared/alice/Work"),
    ("carol", b"FETCH 1:* FLAGS"),
    ("carol", b"STORE 1 +FLAGS (\\Flagged \\Seen)"),
    ("carol", b"STORE 1 +FLAGS (\\Deleted)"),
    ("carol", b"EXPUNGE"),
    ("carol", b"COPY 1 INBOX"),
    ("carol", b"COPY 1:2 shared/alice/Post"),
    ("carol", b"COPY 1 shared/alice/Secret"),
    ("carol", b"COPY 1 Nowhere"),
    ("carol", b"MOVE 1 INBOX"),
    ("carol", b"CLOSE"),
    ("carol", b"APPEND shared/alice/Work " + LITERAL),
    ("carol", b"APPEND shared/alice/Secret " + LITERAL),
    ("carol", b"APPEND Nowhere " + LITERAL),
    ("carol", b"APPEND shared/alice/Post (\\Seen \\Flagged) " + LITERAL),
    ("carol", b'APPEND INBOX (\\Seen $K) "21-Nov-2026 10:00:00 +0000" ' + LITERAL),
    ("carol", b"APPEND INBOX (\\Flagged) " + LITERAL + b" " + LITERAL),
    ("carol", b"STATUS INBOX (MESSAGES SIZE)"),
    ("dave", b"APPEND Public/drop " + LITERAL),
    ("bob", b"APPEND shared/alice/Work (\\Flagged) " + LITERAL),
    ("bob", b"NOOP"),
    ("bob", b"UID COPY 1:2 shared/alice/Work/Sub"),
    ("bob", b"UID COPY 1:2 INBOX"),
    ("bob", b"UID MOVE 4 INBOX"),
    ("alice", b"NOOP"),
    ("bob", b"STORE 1 +FLAGS (\\Deleted)"),
    ("bob", b"UID EXPUNGE 2"),
    ("bob", b"EXPUNGE"),
    ("bob", b"CREATE shared/alice/Work/New"),
    ("bob", b"CREATE shared/alice/Top"),
    ("carol", b"CREATE shared/alice/Work/New2"),
    ("dave", b"CREATE shared/alice/Work/New3"),
    ("bob", b"CREATE Own/Deep"),
    ("bob", b"CREATE Own"),
    ("bob", b"CREATE INBOX"),
    ("bob", b"MYRIGHTS shared/alice/Work/New"),
    ("bob", b"RENAME shared/alice/Work/New shared/alice/Work/Newer"),
    ("carol", b"RENAME shared/alice/Work/Newer shared/alice/Work/Newest"),
    ("bob", b"RENAME Own Mine"),
    ("bob", b"RENAME Nowhere There"),
    ("bob", b"RENAME Mine INBOX"),
    ("bob", b'LIST "" Mine*'),
    ("carol", b"DELETE shared/alice/Work/Newer"),
    ("dave", b"DELETE shared/alice/Work/Newer"),
    ("bob", b"DELETE shared/alice/Work/Newer"),
    ("bob", b"DELETE INBOX"),
    ("bob", b"DELETE Nowhere"),
    ("bob", b"DELETE Mine"),
    ("bob", b"SELECT Mine"),
    ("bob", b"SELECT Mine/Deep"),
    ("bob", b'LIST "" Mine*'),
    ("bob", b"SETACL shared/alice/Work dave lr"),
    ("dave", b"SETACL shared/alice/Work dave lr"),
    ("alice", b"SETACL Work dave lr"),
    ("alice", b"SETACL Work carol +s"),
    ("alice", b"SETACL Work bob -kx"),
    ("alice", b"SETACL Work -bob w"),
    ("alice", b"SETACL Work $staff lrs"),
    ("alice", b"SETACL Work anyone lr"),
    ("alice", b"SETACL Work dave q"),
    ("alice", b"SETACL Work alice lr"),
    ("alice", b"GETACL Work"),
    ("alice", b"MYRIGHTS Work"),
    ("dave", RECONNECT),  # rights of others take a while to be noticed by Dovecot
    ("bob", RECONNECT),
    ("dave", b"MYRIGHTS shared/alice/Work"),
    ("bob", b"MYRIGHTS shared/alice/Work"),
    ("bob", b"SELECT shared/alice/Work"),
    ("dave", b'LIST "" *'),
    ("alice", b"DELETEACL Work -bob"),
    ("alice", b"DELETEACL Work dave"),
    ("alice", b"DELETEACL Work nobody"),
    ("alice", b"GETACL Work"),
    ("dave", RECONNECT),
    ("dave", b"SELECT shared/alice/Work"),
    ("alice", b"UNSELECT"),
    ("alice", b"FETCH 1 FLAGS"),
    ("alice", b"NONSENSE"),
    ("alice", b"CREATE &AOk-"),
    ("alice", b"CREATE &AOk"),
    ("alice", b"CREATE a//b"),
    ("alice", b"CREATE ../x"),
    ("alice", b"CREATE Ends/"),
    ("alice", b'LIST "" *'),
    ("alice", b"STATUS INBOX (MESSAGES)"),
]

# (user, command): why we answer otherwise on purpose.
INTENDED: Final[dict[tuple[str, bytes], str]] = {
    (
        "alice",
        b'LIST (SPECIAL-USE) "" *',
    ): "children are told unasked: RFC 3348 and RFC 5258 let us",
    ("bob", b'LIST (SUBSCRIBED) "" *'): "the same",
    (
        "bob",
        b'LSUB "" %',
    ): "RFC 3501 6.3.9: `shared` is above a subscribed name; list=children hides"
    " it from Dovecot's LSUB",
    ("bob", b"STORE 3 -FLAGS (nothing)"): "removing a keyword that nobody has does not make it; and"
    " each message that STORE names is answered, as RFC 3501 6.4.6 has it",
    ("bob", b'LIST "" Mine*'): "a deleted mailbox with others below cannot be selected, and LIST"
    " says so; Dovecot's SELECT refuses it too",
    (
        "alice",
        b"SETACL Work dave lr",
    ): "what others expunged is told by the next command, whichever",
}


# What of the two trees differs on purpose.
INTENDED_FILES: Final = {
    # Derived, and a superset of what it lists: Dovecot writes one when it lists mailboxes, we only
    # when an ACL changes.  Where both wrote one they must agree.
    "dovecot-acl-list": "a cache that only Dovecot needs is not made by looking",
    # Dovecot 2.3 makes one in a root where it makes the first folder; later versions do not.
    "Maildir/maildirfolder": "the root of a Maildir++ is no subfolder",
}

# RFC 5530 codes, which Dovecot gives in some places and not in others.  TRYCREATE is none of them.
_CODES: Final = re.compile(
    r"(NO) \[(NONEXISTENT|NOPERM|CANNOT|ALREADYEXISTS|SERVERBUG|UNAVAILABLE)\]"
)


def alike(ours: list[str], theirs: list[str]) -> bool:
    """Equal, but for RFC 5530 codes where one has none."""
    if ours == theirs:
        return True
    one, other = (_CODES.sub(r"\1", lines[-1]) for lines in (ours, theirs))
    codeless = one == theirs[-1] or other == ours[-1]
    return ours[:-1] == theirs[:-1] and one == other and codeless


@pytest.mark.parametrize("index", ["yes", "no"])
def test_both_answer_alike_and_leave_the_same_tree(index: str) -> None:
    differences, used = [], set()
    with twins(prepare, f"sharefs_index = {index}\n") as pair:
        for number, (user, command) in enumerate(SCRIPT):
            if command == RECONNECT:
                pair.reconnect(user)
                continue
            ours, theirs = pair.ask(user, command)
            if alike(ours, theirs):
                continue
            if (user, command) in INTENDED:
                used.add((user, command))
                continue
            differences.append(
                f"{number} {user}: {command!r}\n  ours:   {ours}\n  theirs: {theirs}"
            )
        ours_tree, theirs_tree = (tree_of(side.top) for side in pair.sides)
        assert "Traceback" not in pair.server.log_text()
    assert not differences, "\n" + "\n".join(differences)
    assert used == INTENDED.keys(), "no longer a difference"
    different = unlike(ours_tree, theirs_tree)
    assert not different, "\n" + "\n".join(different)


def unlike(ours: Tree, theirs: Tree) -> list[str]:
    """Paths that differ, with how."""
    return [
        f"{path}: ours {ours.get(path)}, theirs {theirs.get(path)}"
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path)
        and not (path not in ours and path.endswith(tuple(INTENDED_FILES)))
    ]
