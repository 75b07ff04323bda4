"""Whether a mailbox is still the one that was opened: its UIDVALIDITY and its GUID."""

import hashlib
from typing import Final

from sharefs.errors import Code, SharingError
from sharefs.store.maildir.config import Site
from sharefs.store.maildir.uidlist_format import Header

# Of a mailbox without a list that we may not make, while it is empty.  Every value that a writer
# gives it later is greater, as RFC 3501 section 2.3.1.1 demands.
NO_UIDVALIDITY: Final = 1


class Sameness:
    """uidvalidity: 0 until it is known.  guid: as the list said first; None: it has not yet."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.uidvalidity = 0
        self.guid: str | None = None

    def check(self, header: Header | None) -> None:
        """header: of the list as it is now.  Raises SharingError(NONEXISTENT)."""
        label = self._site.label
        if header is not None:
            self.uidvalidity = self.uidvalidity or header.uidvalidity
            self.guid = self.guid or header.guid
        # UIDVALIDITY is a time: a mailbox removed and made again within its second has the same.
        if header is not None and header.guid and header.guid != self.guid:
            raise SharingError(
                Code.NONEXISTENT,
                f"the GUID of {label} was {self.guid} and is now {header.guid}: it is no"
                " longer the mailbox that was opened",
            )
        if self.uidvalidity == (header.uidvalidity if header else NO_UIDVALIDITY):
            return
        if not self.uidvalidity:
            return
        now = f"is now {header.uidvalidity}" if header else "is lost, and the list with it"
        raise SharingError(
            Code.NONEXISTENT,
            f"UIDVALIDITY of {label} was {self.uidvalidity} and {now}: it is no longer"
            " the mailbox that was opened",
        )

    def provisional_guid(self) -> str:
        """While the list has none: what stays when the directory is renamed."""
        status = self._site.directory.stat()
        place = f"{status.st_dev}.{status.st_ino}.{self.uidvalidity}"
        return hashlib.blake2b(place.encode(), digest_size=16).hexdigest()
