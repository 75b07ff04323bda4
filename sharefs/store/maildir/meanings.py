"""What the info of a file name means, as long as keyword letters have the names they have."""

from collections.abc import Iterable

from sharefs.flags import FlagSet, System
from sharefs.store.maildir.filename import parse_info
from sharefs.store.maildir.keyword_file import KeywordFile


class Meanings:
    """Flags by info, each taken apart once: a mailbox has few different ones."""

    def __init__(self, keywords: KeywordFile) -> None:
        self._keywords = keywords
        self._flags: dict[str, FlagSet] = {}

    def of(self, info: str) -> FlagSet:
        flags = self._flags.get(info)
        if flags is None:
            parsed = parse_info(info)
            names = map(self._keywords.current.name_of, parsed.letters)
            flags = self._flags[info] = FlagSet(parsed.system, frozenset(names))
        return flags

    def lacking(self, infos: Iterable[str], flag: System) -> set[str]:
        """Those of infos that do not have a system flag."""
        return {info for info in infos if not self.of(info).system & flag}

    def look_again(self) -> frozenset[str]:
        """Letters may have other names now.  Returns the infos whose flags are others."""
        before, self._flags = self._flags, {}
        return frozenset(info for info, old in before.items() if self.of(info) != old)
