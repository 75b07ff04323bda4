"""Tickets are good once, for a while, and cannot be guessed."""

from imap.service.tickets import MOST, TicketBook, new_ticket


def test_a_ticket_works_once() -> None:
    book: TicketBook[str] = TicketBook()
    book.add("t", "alice", now=0)
    assert book.redeem("t", now=1) == "alice"
    assert book.redeem("t", now=1) is None


def test_a_ticket_expires() -> None:
    book: TicketBook[str] = TicketBook(lifetime=10)
    book.add("early", "alice", now=0)
    book.add("late", "bob", now=5)
    assert book.redeem("early", now=10) is None
    assert book.redeem("late", now=14.9) == "bob"
    assert len(book) == 0


def test_a_forged_ticket_is_nobodys() -> None:
    book: TicketBook[str] = TicketBook()
    book.add(new_ticket(), "alice", now=0)
    assert book.redeem(new_ticket(), now=0) is None
    assert book.redeem("", now=0) is None
    assert len(book) == 1


def test_a_flood_of_unused_tickets_stays_bounded() -> None:
    book: TicketBook[int] = TicketBook()
    for number in range(MOST + 5):
        book.add(str(number), number, now=0)
    assert len(book) == MOST
    assert book.redeem("4", now=0) is None
    assert book.redeem(str(MOST + 4), now=0) == MOST + 4


def test_tickets_differ_and_carry_128_bits() -> None:
    tickets = {new_ticket() for _ in range(1000)}
    assert len(tickets) == 1000
    assert {len(ticket) for ticket in tickets} == {32}
