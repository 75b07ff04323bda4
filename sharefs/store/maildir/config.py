"""What a Maildir storage needs to know, and where one mailbox of it lives."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sharefs.names import Naming
from sharefs.permissions.inherit import Creation


class Fsync(enum.StrEnum):
    """mail_fsync.  What is on the disk when a call returns (docs/maildir.md).

    optimized: new messages, their numbers, keywords and mailboxes.  always: changes of flags and
    removals, too.  never: nothing.
    """

    OPTIMIZED = "optimized"
    ALWAYS = "always"
    NEVER = "never"

    def __bool__(self) -> bool:
        return self is not Fsync.NEVER


@dataclass(frozen=True, slots=True)
class MaildirConfig:
    """One storage.

    root: mail_path, variables expanded.  template: mail_path as configured, for a missing root.
    control: mail_control_path; None: control files live in the mailboxes.
    has_inbox: ("INBOX",) is inbox_path, or the root itself if that is None; without it INBOX is
    a name like any other.  create_inbox: open() makes a missing INBOX (the owner's own storage).
    permissions_from: where a new mailbox copies its permissions from (docs/permissions.md).
    save_crlf: store CRLF line ends as they come rather than the LF that other programs expect.
    lock_timeout: seconds to wait for a lock.  links_between: copying may use hard links.
    """

    root: Path
    template: str = ""
    control: Path | None = None
    naming: Naming = field(default_factory=Naming)
    has_inbox: bool = True
    inbox_path: Path | None = None
    create_inbox: bool = True
    permissions_from: Literal["root", "parent"] = "root"
    fsync: Fsync = Fsync.OPTIMIZED
    links_between: bool = True
    save_crlf: bool = False
    lock_timeout: float = 122.0  # Dovecot's, for dovecot-uidlist.lock
    lock_excl: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Where one mailbox lives.

    label: for messages.  directory: holds cur, new, tmp.  control: holds dovecot-uidlist and
    dovecot-keywords.  control_root: holds dovecot-uidvalidity.
    creation: what new messages and directories get; looked up when first needed.
    control_creation: what control files get, which follow the control path if that is another:
    it may be the viewer's own, or shared among people who cannot write the mail.
    root_creation: what files in control_root get.
    """

    label: str
    directory: Path
    control: Path
    control_root: Path
    creation: Callable[[], Creation]
    control_creation: Callable[[], Creation]
    root_creation: Callable[[], Creation]
    config: MaildirConfig
