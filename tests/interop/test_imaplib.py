"""The standard library's own client: a share from its making to its end, plain and over TLS."""

import pytest

from tests.interop.host import Host, message

pytestmark = [pytest.mark.superuser, pytest.mark.clients]

WORK = "shared/alice/Work"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_share_from_its_making_to_its_end(host: Host, tls: bool) -> None:
    server = host.server
    with server.imap("alice", tls=tls) as alice, server.imap("bob", tls=tls) as bob:
        assert alice.create("Work")[0] == "OK"
        status, answer = alice.append("Work", "(\\Flagged)", "", message("Minutes", "agreed"))
        assert status == "OK"
        assert "APPENDUID" in str(answer)
        assert bob.select(WORK)[0] == "NO"

        assert alice.setacl("Work", "bob", "lrs") == ("OK", [b"Setacl complete."])
        assert alice.getacl("Work")[1] == [b'"Work" bob lrs alice lrwstipekxacd']
        assert WORK in str(bob.list("shared/", "*"))
        assert bob.myrights(WORK)[1] == [f'"{WORK}" lrs'.encode()]
        assert bob.select(WORK) == ("OK", [b"1"])
        assert bob.response("PERMANENTFLAGS")[1] == [rb"(\Seen)"]
        assert bob.search(None, "SUBJECT", "minutes", "UNSEEN")[1] == [b"1"]
        status, fetched = bob.fetch("1", "(FLAGS BODY[TEXT])")
        assert status == "OK"
        assert "agreed" in str(fetched)
        status, told = bob.store("1", "+FLAGS", "(\\Deleted)")
        assert (status, told) == ("OK", [rb"1 (FLAGS (\Flagged \Seen))"])  # without right t
        assert bob.copy("1", "INBOX")[0] == "OK"

        assert alice.select("Work") == ("OK", [b"1"])
        assert alice.search(None, "SEEN")[1] == [b""]  # bob's \Seen is his own
        assert alice.deleteacl("Work", "bob")[0] == "OK"
        assert bob.fetch("1", "(FLAGS)")[0] == "NO"
        assert bob.list("shared/", "*")[1] == [None]
        assert bob.select("INBOX") == ("OK", [b"1"])
