"""ACL files as a scan has read them: once, and never through a symbolic link."""

from pathlib import Path

from sharefs.audit.scan import ScannedBox
from sharefs.audit.viewing import ReaderAs
from sharefs.permissions.access import Credentials
from sharefs.sharing.acl_text import parse_acl
from sharefs.sharing.files import MAX_SIZE, AclFile, AclReader, Condition, acl_path


class ScannedAcls(AclReader):
    """The ACL file of the mailbox that was taken last; others as `who` could read them."""

    def __init__(self, who: Credentials) -> None:
        super().__init__()
        self._other = ReaderAs(who)
        self._taken: dict[Path, AclFile] = {}

    def take(self, box: ScannedBox) -> AclFile:
        """The ACL file of this mailbox, which read() returns from now on."""
        file = self._file_of(box)
        self._taken = {file.path: file}
        return file

    def read(self, path: Path) -> AclFile:
        return self._taken.get(path) or self._other.read(path)

    def _file_of(self, box: ScannedBox) -> AclFile:
        path = acl_path(Path(box.path))
        if box.acl_is_link:
            return self._other.read(path)
        if box.acl is None:
            return AclFile(path, Condition.MISSING)
        if len(box.acl) > MAX_SIZE:
            return self._other.read(path)  # which says what is wrong with it
        parsed = parse_acl(box.acl, str(path))
        condition = Condition.MALFORMED if parsed.malformed else Condition.READ
        return AclFile(path, condition, parsed.acl, parsed.problems, 1)
