"""Names of uids and gids for people, remembered for one run.  A number without a name stays one."""

import functools
import pwd

from sharefs.identity.groups import name_of


class Names:
    """Looks each number up once."""

    @functools.cache  # noqa: B019  # one object for each run, so nothing outlives its use
    def user(self, uid: int) -> str:
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return str(uid)

    @functools.cache  # noqa: B019  # as above
    def group(self, gid: int) -> str:
        return name_of(gid) or str(gid)
