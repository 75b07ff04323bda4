"""Numbers with their nouns.  Pure."""


def counted(number: int, noun: str) -> str:
    """ "1 leak", "1,200 leaks", "2 mailboxes"."""
    plural = "es" if noun.endswith("x") else "s"
    return f"{number:,} {noun}" + ("" if number == 1 else plural)
