"""What every storage must do: the checks behind sharefs.store.interface.

Written against the interface alone, so that Maildir, mbox and dbox answer to the same tests.  A
storage's test module subclasses StorageContract and provides the `storage` fixture, an empty
storage with an inbox whose layout separates levels, and maybe reopens it with `again`.
"""

import contextlib
from collections.abc import Iterator
from contextlib import closing

import pytest

from sharefs.errors import Code, SharingError
from sharefs.flags import NO_FLAGS, FlagChange, FlagFilter, FlagOp, FlagSet, System
from sharefs.store.interface import Changes, Existence, FlagTest, Mailbox, Storage

INBOX = ("INBOX",)
SEEN = FlagSet(System.SEEN)
FLAGGED = FlagSet(System.FLAGGED, frozenset({"$Label1"}))
HELLO = b"Subject: hello\r\n\r\nworld\r\n"


def message(number: int) -> bytes:
    return b"Subject: message %d\r\n\r\n%s\r\n" % (number, b"x" * number)


def add(mailbox: Mailbox, *messages: bytes, flags: FlagSet = NO_FLAGS, date: int = 1) -> list[int]:
    with mailbox.saver() as saver:
        for octets in messages:
            saver.begin(flags, date)
            saver.write(octets)
            saver.finish()
        return saver.commit()


def uids(mailbox: Mailbox) -> list[int]:
    mailbox.sync()
    return list(mailbox.uids())


def refusal(code: Code) -> "pytest.RaisesExc[SharingError]":
    return pytest.raises(SharingError, match=f"^{code}: ")


class StorageContract:
    """Subclass as Test...; override the fixture `storage`."""

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    @pytest.fixture
    def inbox(self, storage: Storage) -> Iterator[Mailbox]:
        if storage.existence(INBOX) is Existence.ABSENT:
            storage.create(INBOX)
        with closing(storage.open(INBOX)) as mailbox:
            yield mailbox

    @pytest.fixture
    def work(self, storage: Storage, inbox: Mailbox) -> Iterator[Mailbox]:
        storage.create(("Work",))
        with closing(storage.open(("Work",))) as mailbox:
            yield mailbox

    # --- messages --------------------------------------------------------------------------

    def test_an_empty_mailbox(self, inbox: Mailbox) -> None:
        assert uids(inbox) == []
        assert inbox.uidvalidity > 0
        assert inbox.uidnext > 0
        assert not inbox.recent(claim=True)

    def test_a_message_comes_back_octet_by_octet(self, inbox: Mailbox) -> None:
        odd = b"Subject: odd\r\n\r\nlone \r CR, double \r\r\n, 8-bit \xff, end\r\r\n"
        assert add(inbox, HELLO, odd) == [1, 2]
        assert uids(inbox) == [1, 2]
        assert inbox.uidnext == 3
        assert inbox.read(1) == HELLO
        assert inbox.read(2) == odd
        assert inbox.read_header(1) == b"Subject: hello\r\n\r\n"
        assert inbox.info(1).size == len(HELLO)
        assert inbox.info(2).size == len(odd)
        assert inbox.size(2) == len(odd)

    def test_a_bare_lf_is_read_as_crlf(self, inbox: Mailbox) -> None:
        [uid] = add(inbox, b"a: b\n\nbody\r\nmore\n")
        inbox.sync()
        assert inbox.read(uid) == b"a: b\r\n\r\nbody\r\nmore\r\n"
        assert inbox.info(uid).size == len(inbox.read(uid))

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_split_points_never_matter(self, inbox: Mailbox, size: int) -> None:
        octets = b"a: b\r\n\r\n\r\r\nx\ry\r\r"
        with inbox.saver() as saver:
            saver.begin(NO_FLAGS, None)
            for start in range(0, len(octets), size):
                saver.write(memoryview(octets)[start : start + size])
            saver.finish()
            [uid] = saver.commit()
        inbox.sync()
        assert inbox.read(uid) == octets
        assert inbox.info(uid).size == len(octets)

    def test_an_empty_message(self, inbox: Mailbox) -> None:
        [uid] = add(inbox, b"")
        inbox.sync()
        assert inbox.read(uid) == b""
        assert inbox.read_header(uid) == b""
        assert inbox.info(uid).size == 0

    def test_the_size_of_all_messages(self, storage: Storage, inbox: Mailbox) -> None:
        assert inbox.total_size() == 0
        add(inbox, b"Subject: a\r\n\r\nline\r\n", b"x")
        assert inbox.total_size() == len(b"Subject: a\r\n\r\nline\r\n") + 1
        with contextlib.closing(storage.open(INBOX)) as another:
            assert another.total_size() == inbox.total_size()
        inbox.expunge(inbox.uids()[:1])
        assert inbox.total_size() == 1

    def test_flags_and_dates_are_kept(self, storage: Storage, inbox: Mailbox) -> None:
        [uid] = add(inbox, HELLO, flags=FLAGGED, date=1_000_000_000)
        inbox.sync()
        assert inbox.flags_of(uid) == FLAGGED
        assert inbox.info(uid).internaldate == 1_000_000_000
        assert "$Label1" in inbox.keywords()
        with closing(storage.open(INBOX)) as again:
            assert uids(again) == [uid]
            assert again.flags_of(uid) == FLAGGED
            assert again.uidvalidity == inbox.uidvalidity

    def test_leaving_without_commit_leaves_no_trace(self, inbox: Mailbox) -> None:
        with inbox.saver() as saver:
            saver.begin(NO_FLAGS, None)
            saver.write(HELLO)
            saver.finish()
            saver.begin(NO_FLAGS, None)
            saver.write(HELLO)
        assert uids(inbox) == []

    def test_an_unknown_uid(self, inbox: Mailbox) -> None:
        inbox.sync()
        with pytest.raises(KeyError):
            inbox.flags_of(77)
        for ask in (inbox.read, inbox.read_header, inbox.info, inbox.size):
            with refusal(Code.EXPUNGED):
                ask(77)

    # --- flags -----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("op", "want"),
        [
            (FlagOp.ADD, FlagSet(System.SEEN | System.FLAGGED, frozenset({"$Label1", "New"}))),
            (FlagOp.REMOVE, FlagSet(System.FLAGGED, frozenset({"$Label1"}))),
            (FlagOp.REPLACE, FlagSet(System.SEEN, frozenset({"New"}))),
        ],
    )
    def test_storing_flags(self, inbox: Mailbox, op: FlagOp, want: FlagSet) -> None:
        [uid] = add(inbox, HELLO, flags=FLAGGED)
        inbox.sync()
        change = FlagChange(op, FlagSet(System.SEEN, frozenset({"New"})))
        got = inbox.store_flags([uid], change)
        assert got == ([] if op is FlagOp.REMOVE else [uid])
        assert inbox.flags_of(uid) == want
        assert inbox.store_flags([uid], change) == []  # once is enough

    def test_flags_outside_the_rights_stay(self, inbox: Mailbox) -> None:
        [uid] = add(inbox, HELLO, flags=FLAGGED)
        inbox.sync()
        only_seen = FlagFilter(System.SEEN, keywords=False)
        inbox.store_flags([uid], FlagChange(FlagOp.REPLACE, SEEN, only_seen))
        assert inbox.flags_of(uid) == SEEN.add(FLAGGED)

    def test_keywords_keep_the_case_they_were_first_written_in(self, inbox: Mailbox) -> None:
        one, two = add(inbox, HELLO, HELLO)
        inbox.sync()
        inbox.store_flags([one], FlagChange(FlagOp.ADD, FlagSet(keywords=frozenset({"Later"}))))
        inbox.store_flags([two], FlagChange(FlagOp.ADD, FlagSet(keywords=frozenset({"LATER"}))))
        assert inbox.flags_of(two).keywords == {"Later"}

    def test_another_view_sees_flags(self, storage: Storage, inbox: Mailbox) -> None:
        add(inbox, HELLO, HELLO)
        with closing(storage.open(INBOX)) as other:
            assert uids(other) == [1, 2]
            before = other.generation
            inbox.sync()
            inbox.store_flags([2], FlagChange(FlagOp.ADD, FLAGGED))
            assert other.sync()
            assert other.flags_of(2) == FLAGGED
            assert other.changes_since(before) == Changes(flags=(2,))

    def test_messages_by_their_flags(self, inbox: Mailbox) -> None:
        def told() -> dict[FlagSet, list[int]]:
            found: dict[FlagSet, list[int]] = {}
            for flags, uids in inbox.by_flags():
                found[flags] = sorted([*found.get(flags, ()), *uids])
                assert list(uids) == sorted(uids)
            assert found == want()
            return found

        def want() -> dict[FlagSet, list[int]]:
            found: dict[FlagSet, list[int]] = {}
            for uid in inbox.uids():
                found.setdefault(inbox.flags_of(uid), []).append(uid)
            return found

        assert told() == {}
        assert inbox.flags_of_each([1]) == [None]
        add(inbox, HELLO, HELLO, HELLO)
        inbox.sync()
        before = told()
        inbox.store_flags([1, 3], FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED)))
        assert told() != before
        inbox.expunge([3])
        assert [uid for _, uids in inbox.by_flags() for uid in uids] in ([1, 2], [2, 1])
        assert inbox.flags_of_each([1, 2, 3]) == [inbox.flags_of(1), inbox.flags_of(2), None]
        told()

    def test_messages_whose_flags_pass(self, inbox: Mailbox) -> None:
        tests: list[FlagTest] = [
            lambda flags: bool(flags.system & System.FLAGGED),
            lambda flags: not flags.system & System.FLAGGED,
            lambda flags: True,
            lambda flags: False,
            lambda flags: bool(flags.system & System.SEEN),  # more than are remembered
        ]

        def demand_right() -> None:
            for test in tests * 2:
                want = [uid for uid in inbox.uids() if test(inbox.flags_of(uid))]
                assert list(inbox.with_flags(test)) == want

        demand_right()
        add(inbox, HELLO, HELLO, HELLO, HELLO)
        inbox.sync()
        demand_right()
        inbox.store_flags([1, 3], FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED)))
        inbox.store_flags([2, 3], FlagChange(FlagOp.ADD, FlagSet(System.SEEN)))
        demand_right()
        inbox.expunge([3])
        demand_right()

    def test_unseen(self, inbox: Mailbox) -> None:
        add(inbox, HELLO, HELLO)
        add(inbox, HELLO, flags=SEEN.add(FLAGGED))
        inbox.sync()
        assert list(inbox.unseen()) == [1, 2]
        assert inbox.first_unseen() == 1
        inbox.store_flags([1], FlagChange(FlagOp.ADD, FLAGGED))
        inbox.store_flags([2], FlagChange(FlagOp.ADD, SEEN))
        assert list(inbox.unseen()) == [1]
        assert inbox.first_unseen() == 1
        inbox.expunge([1])
        assert list(inbox.unseen()) == []
        assert inbox.first_unseen() == 0

    # --- generations -----------------------------------------------------------------------

    def test_changes_since_any_generation(self, storage: Storage, inbox: Mailbox) -> None:
        inbox.sync()
        generations = [inbox.generation]
        with closing(storage.open(INBOX)) as other:
            add(other, HELLO, HELLO, HELLO)
            inbox.sync()
            generations.append(inbox.generation)
            other.sync()
            other.store_flags([2], FlagChange(FlagOp.ADD, SEEN))
            inbox.sync()
            generations.append(inbox.generation)
            other.expunge([1])
            add(other, HELLO)
            inbox.sync()
        start, added, flagged = generations
        assert inbox.changes_since(start) == Changes(added=(2, 3, 4))
        assert inbox.changes_since(added) == Changes(expunged=(1,), added=(4,), flags=(2,))
        assert inbox.changes_since(flagged) == Changes(expunged=(1,), added=(4,))
        assert inbox.changes_since(inbox.generation) == Changes()

    def test_flags_that_others_changed_are_left_alone_if_asked(
        self, storage: Storage, inbox: Mailbox
    ) -> None:
        """RFC 7162 UNCHANGEDSINCE: the other one was faster, after our last look."""
        add(inbox, HELLO, HELLO, HELLO)
        inbox.sync()
        with closing(storage.open(INBOX)) as other:
            other.sync()
            other.store_flags([1], FlagChange(FlagOp.ADD, SEEN))
            other.expunge([2])
            adding = FlagChange(FlagOp.ADD, FLAGGED)
            assert inbox.store_flags([1, 2, 3], adding, unless_changed=True) == [3]
            assert inbox.flags_of(1) == SEEN
            assert inbox.store_flags([1], adding, unless_changed=True) == [1]
            other.sync()
            assert other.flags_of(1) == SEEN.add(FLAGGED)

    def test_the_uid_sequence_is_replaced_never_changed(self, inbox: Mailbox) -> None:
        add(inbox, HELLO)
        inbox.sync()
        before = inbox.uids()
        copy = list(before)
        add(inbox, HELLO)
        inbox.sync()
        inbox.expunge([1])
        assert list(before) == copy
        assert list(inbox.uids()) == [2]

    def test_nothing_changed_is_nothing_changed(self, inbox: Mailbox) -> None:
        add(inbox, HELLO)
        inbox.sync()
        generation = inbox.generation
        assert not inbox.sync()
        assert inbox.generation == generation

    # --- removing --------------------------------------------------------------------------

    def test_expunge(self, storage: Storage, inbox: Mailbox) -> None:
        add(inbox, HELLO, HELLO, HELLO)
        inbox.sync()
        assert sorted(inbox.expunge([1, 3, 77])) == [1, 3]
        assert list(inbox.uids()) == [2]
        with refusal(Code.EXPUNGED):
            inbox.read(1)
        with closing(storage.open(INBOX)) as again:
            assert uids(again) == [2]

    def test_uids_are_never_reused(self, storage: Storage, inbox: Mailbox) -> None:
        add(inbox, HELLO, HELLO)
        inbox.sync()
        inbox.expunge([1, 2])
        assert add(inbox, HELLO) == [3]
        with closing(storage.open(INBOX)) as again:
            again.sync()
            again.expunge([3])
            assert add(again, HELLO) == [4]

    def test_a_message_expunged_by_others(self, storage: Storage, inbox: Mailbox) -> None:
        add(inbox, HELLO, HELLO)
        inbox.sync()
        with closing(storage.open(INBOX)) as other:
            other.sync()
            other.expunge([1])
        with refusal(Code.EXPUNGED):
            inbox.read(1)
        assert inbox.store_flags([1, 2], FlagChange(FlagOp.ADD, SEEN)) == [2]

    # --- recent ----------------------------------------------------------------------------

    def test_each_recent_message_has_one_claimer(self, storage: Storage, inbox: Mailbox) -> None:
        add(inbox, HELLO, HELLO)
        with closing(storage.open(INBOX)) as other:
            inbox.sync()
            other.sync()
            assert inbox.recent(claim=False) == {1, 2}
            claimed = [inbox.recent(claim=True), other.recent(claim=True)]
            assert sorted(claimed) == sorted([frozenset({1, 2}), frozenset()])
            other.sync()
            assert other.recent(claim=False) == frozenset()
            assert list(other.uids()) == [1, 2]
            assert other.flags_of(1) == NO_FLAGS

    # --- copying and moving ----------------------------------------------------------------

    def test_copy(self, inbox: Mailbox, work: Mailbox) -> None:
        add(inbox, *map(message, range(1, 4)), flags=FLAGGED, date=5)
        add(work, HELLO)
        inbox.sync()
        copied = work.copy_from(inbox, [3, 1])
        assert [(each.source_uid, each.uid) for each in copied] == [(3, 2), (1, 3)]
        assert uids(work) == [1, 2, 3]
        assert work.read(2) == message(3)
        assert work.read(3) == message(1)
        assert work.flags_of(2) == FLAGGED
        assert work.info(2).internaldate == 5
        assert uids(inbox) == [1, 2, 3]

    def test_copy_drops_flags_outside_the_rights(self, inbox: Mailbox, work: Mailbox) -> None:
        add(inbox, HELLO, flags=SEEN.add(FLAGGED))
        inbox.sync()
        work.copy_from(inbox, [1], FlagFilter(System.SEEN, keywords=False))
        work.sync()
        assert work.flags_of(1) == SEEN

    def test_copy_is_all_or_nothing(self, inbox: Mailbox, work: Mailbox) -> None:
        add(inbox, HELLO)
        inbox.sync()
        with refusal(Code.EXPUNGED):
            work.copy_from(inbox, [1, 77])
        assert uids(work) == []

    def test_copy_within_one_mailbox(self, inbox: Mailbox) -> None:
        add(inbox, HELLO)
        inbox.sync()
        [copied] = inbox.copy_from(inbox, [1])
        assert copied.uid == 2
        assert uids(inbox) == [1, 2]
        inbox.expunge([1])
        assert inbox.read(2) == HELLO

    def test_copying_again_makes_another(self, inbox: Mailbox, work: Mailbox) -> None:
        add(inbox, HELLO)
        inbox.sync()
        work.copy_from(inbox, [1])
        work.copy_from(inbox, [1])
        assert uids(work) == [1, 2]

    def test_move(self, inbox: Mailbox, work: Mailbox) -> None:
        add(inbox, HELLO, message(9), flags=SEEN)
        inbox.sync()
        [moved] = work.move_from(inbox, [2])
        assert uids(inbox) == [1]
        assert uids(work) == [moved.uid]
        assert work.read(moved.uid) == message(9)
        assert work.flags_of(moved.uid) == SEEN

    # --- read only -------------------------------------------------------------------------

    def test_read_only(self, storage: Storage, inbox: Mailbox, work: Mailbox) -> None:
        add(work, HELLO)
        with closing(storage.open(("Work",), readonly=True)) as mailbox:
            assert mailbox.readonly
            assert uids(mailbox) == [1]
            assert mailbox.recent(claim=True) == {1}
            assert not mailbox.can_add_keywords()
            for refused in (
                lambda: mailbox.store_flags([1], FlagChange(FlagOp.ADD, SEEN)),
                lambda: mailbox.expunge([1]),
                lambda: mailbox.copy_from(inbox, []),
                mailbox.saver,
            ):
                with refusal(Code.NO_PERMISSION):
                    refused()
        work.sync()
        assert work.recent(claim=True) == {1}

    # --- mailboxes -------------------------------------------------------------------------

    def names(self, storage: Storage) -> set[tuple[str, ...]]:
        return {
            found.name
            for found in storage.iterate()
            if found.existence is Existence.SELECTABLE and found.name != INBOX
        }

    def test_create_and_delete(self, storage: Storage, inbox: Mailbox) -> None:
        for name in [("Work",), ("Work", "Sub"), ("Entwürfe & mehr",)]:
            assert storage.existence(name) is not Existence.SELECTABLE
            storage.create(name)
            assert storage.existence(name) is Existence.SELECTABLE
            with refusal(Code.ALREADY_EXISTS):
                storage.create(name)
        assert self.names(storage) == {("Work",), ("Work", "Sub"), ("Entwürfe & mehr",)}
        storage.delete(("Work",))
        assert self.names(storage) == {("Work", "Sub"), ("Entwürfe & mehr",)}
        storage.delete(("Work", "Sub"))
        assert self.names(storage) == {("Entwürfe & mehr",)}

    def test_a_child_without_its_parent(self, storage: Storage, inbox: Mailbox) -> None:
        storage.create(("a", "b", "c"))
        assert self.names(storage) == {("a", "b", "c")}
        storage.create(("a",))
        assert self.names(storage) == {("a",), ("a", "b", "c")}

    def test_what_is_not_there(self, storage: Storage, inbox: Mailbox) -> None:
        for act in (storage.open, storage.delete, storage.guid):
            with refusal(Code.NONEXISTENT):
                act(("Nowhere",))
        with refusal(Code.NONEXISTENT):
            storage.rename(("Nowhere",), ("Elsewhere",))
        assert self.names(storage) == set()

    @pytest.mark.parametrize(
        "name", [("..",), ("a", ""), ("a/b",), ("a\0",), ("~a",), ("x" * 300,)]
    )
    def test_names_that_cannot_be(
        self, storage: Storage, inbox: Mailbox, name: tuple[str, ...]
    ) -> None:
        with refusal(Code.CANNOT):
            storage.create(name)
        assert storage.existence(name) is Existence.ABSENT
        with refusal(Code.NONEXISTENT):
            storage.open(name)
        assert self.names(storage) == set()

    def test_rename_takes_children_along(self, storage: Storage, work: Mailbox) -> None:
        add(work, HELLO)
        uidvalidity = work.uidvalidity
        storage.create(("Work", "Sub"))
        storage.create(("Workshop",))
        storage.rename(("Work",), ("Play",))
        assert self.names(storage) == {("Play",), ("Play", "Sub"), ("Workshop",)}
        with closing(storage.open(("Play",))) as moved:
            assert uids(moved) == [1]
            assert moved.uidvalidity == uidvalidity

    def test_rename_below_another(self, storage: Storage, work: Mailbox) -> None:
        storage.create(("Old",))
        storage.rename(("Old",), ("Work", "New"))
        assert self.names(storage) == {("Work",), ("Work", "New")}

    def test_rename_refusals(self, storage: Storage, work: Mailbox) -> None:
        storage.create(("Other",))
        with refusal(Code.ALREADY_EXISTS):
            storage.rename(("Work",), ("Other",))
        with refusal(Code.ALREADY_EXISTS):
            storage.rename(("Work",), INBOX)
        with refusal(Code.CANNOT):
            storage.rename(("Work",), ("Work", "Sub"))
        with refusal(Code.CANNOT):
            storage.rename(("Work",), ("a/b",))
        assert self.names(storage) == {("Work",), ("Other",)}

    def test_renaming_the_inbox_moves_its_messages(self, storage: Storage, inbox: Mailbox) -> None:
        add(inbox, HELLO, message(3))
        storage.rename(INBOX, ("Old",))
        assert uids(inbox) == []
        with closing(storage.open(("Old",))) as old:
            assert [old.read(uid) for uid in uids(old)] == [HELLO, message(3)]

    def test_the_inbox_cannot_be_deleted(self, storage: Storage, inbox: Mailbox) -> None:
        with refusal(Code.CANNOT):
            storage.delete(INBOX)
        with refusal(Code.ALREADY_EXISTS):
            storage.create(INBOX)

    def test_a_deleted_mailbox_lets_go(self, storage: Storage, work: Mailbox) -> None:
        work.sync()
        storage.delete(("Work",))
        with refusal(Code.NONEXISTENT):
            add(work, HELLO)
        with refusal(Code.NONEXISTENT):
            work.sync()

    def test_a_mailbox_deleted_while_a_message_is_written(
        self, storage: Storage, work: Mailbox
    ) -> None:
        with work.saver() as saver:
            saver.begin(NO_FLAGS, None)
            saver.write(HELLO)
            saver.finish()
            storage.delete(("Work",))
            with refusal(Code.NONEXISTENT):
                saver.commit()

    def test_a_mailbox_made_again_is_another_one(self, storage: Storage, work: Mailbox) -> None:
        add(work, HELLO)
        before = (work.uidvalidity, storage.guid(("Work",)))
        storage.delete(("Work",))
        storage.create(("Work",))
        with closing(storage.open(("Work",))) as again:
            assert uids(again) == []
            assert again.uidvalidity > before[0]
            assert storage.guid(("Work",)) != before[1]
        with refusal(Code.NONEXISTENT):
            work.sync()

    def test_guids_stay(self, storage: Storage, work: Mailbox) -> None:
        guid = storage.guid(("Work",))
        assert work.guid() == guid
        assert len(guid) == 32
        int(guid, 16)
        storage.rename(("Work",), ("Play",))
        assert storage.guid(("Play",)) == guid
        with contextlib.closing(storage.open(("Play",))) as play:
            assert play.guid() == guid
        assert storage.guid(INBOX) != guid
