"""Line ends and sizes of messages: the CRLF form, its size, where the header ends.  Pure."""


def crlf(octets: bytes) -> bytes:
    """The message with every line end CRLF.  Returns the same object if it is so already.

    A bare LF becomes CRLF; a bare CR is no line end and stays.
    """
    if octets.count(b"\n") == octets.count(b"\r\n"):
        return octets
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def virtual_size(octets: bytes) -> int:
    """RFC822.SIZE: how many octets crlf() would return, without making them."""
    return len(octets) + octets.count(b"\n") - octets.count(b"\r\n")


def find_header_end(octets: bytes, start: int = 0) -> int:
    """Offset just after the empty line that ends the header which begins at start.

    Without an empty line all of it is header: len(octets).  Line ends must be CRLF.
    """
    if octets.startswith(b"\r\n", start):
        return start + 2
    blank = octets.find(b"\r\n\r\n", start)
    return len(octets) if blank < 0 else blank + 4
