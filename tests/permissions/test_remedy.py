"""Remedies as values: what is suggested, the rules agree to."""

import stat

from hypothesis import given, settings
from hypothesis import strategies as st

from sharefs.permissions import access
from sharefs.permissions.access import Class, Credentials, Inode, Want, check
from sharefs.permissions.posix_acl import AclEntry, Tag
from sharefs.permissions.remedy import remedy_of

bits = st.integers(0, 7)
ids = st.integers(1, 4)


@st.composite
def inodes(draw: st.DrawFn) -> Inode:
    mode = stat.S_IFDIR | draw(st.integers(0, 0o777))
    acl = None
    if draw(st.booleans()):
        named = [AclEntry(Tag.USER, draw(bits), uid) for uid in sorted(draw(st.sets(ids)))]
        named += [AclEntry(Tag.GROUP, draw(bits), gid) for gid in sorted(draw(st.sets(ids)))]
        entries = [AclEntry(Tag.USER_OBJ, mode >> 6 & 7), AclEntry(Tag.GROUP_OBJ, draw(bits))]
        mask = [AclEntry(Tag.MASK, mode >> 3 & 7)]
        acl = tuple(sorted(
            [*entries, *named, *mask, AclEntry(Tag.OTHER, mode & 7)],
            key=lambda entry: (entry.tag, entry.qualifier or 0),
        ))  # fmt: skip
    return Inode("/d", mode, draw(ids), draw(ids), acl)


people = st.builds(Credentials, ids, ids, st.frozensets(ids, max_size=2))


@settings(max_examples=300)
@given(inode=inodes(), who=people, want=st.integers(1, 7).map(Want))
def test_every_refusal_by_permissions_has_a_remedy_that_works(
    inode: Inode, who: Credentials, want: Want
) -> None:
    answer = check(inode, who, want)
    if answer:
        return
    remedy = remedy_of(answer, who)
    assert remedy is not None
    after = remedy.applied_to(who)
    assert check(remedy.after, after, want), (answer, remedy)
    for bit in Want:  # and nothing is lost by it
        assert not check(inode, who, bit) or check(remedy.after, after, bit)


def test_the_least_is_opened() -> None:
    directory = stat.S_IFDIR
    stranger = Credentials(3, 3)
    cases = [
        (Inode("/d", directory | 0o600, 3, 9), "chmod u+x /d"),
        (Inode("/d", directory | 0o700, 1, 3), "chmod g+x /d"),
        (Inode("/d", directory | 0o710, 1, 9),
         "add group 9 to mail_access_groups, or uid 3 to the group"),
        (Inode("/d", directory | 0o700, 1, 9), "setfacl -m u:3:--x /d"),
    ]  # fmt: skip
    for inode, want in cases:
        remedy = remedy_of(check(inode, stranger, Want.SEARCH), stranger)
        assert remedy is not None
        assert remedy.command == want


def test_what_no_mode_can_mend() -> None:
    sticky = Inode("/d", stat.S_IFDIR | 0o1777, 1, 1)
    entry = Inode("/d/f", stat.S_IFREG | 0o666, 1, 1)
    who = Credentials(3, 3)
    answer = access.can_remove(sticky, entry, who)
    remedy = remedy_of(answer, who)
    assert remedy is not None
    assert remedy.command == "chmod -t /d"
    assert access.can_remove(remedy.after, entry, who)
    locked = Inode("/ro", stat.S_IFDIR | 0o777, 1, 1, read_only=True)
    for refusal in (
        check(locked, who, Want.WRITE),
        access.can_chmod(locked, who),
        access.can_chgrp(locked, 3, who),
    ):
        assert refusal.decided_by is Class.READ_ONLY
        lifted = remedy_of(refusal, who)
        assert lifted is not None
        assert lifted.remount


def test_links_in_directories_for_everybody() -> None:
    """fs.protected_symlinks, row by row (proc_sys_fs(5))."""
    for mode, dir_uid, link_uid, uid, want in [
        (0o1777, 0, 5, 5, True),  # one's own link
        (0o1777, 5, 5, 6, True),  # the directory's owner's link
        (0o1777, 0, 5, 6, False),
        (0o0777, 0, 5, 6, True),  # not sticky
        (0o1775, 0, 5, 6, True),  # not for everybody to write to
    ]:
        directory = Inode("/t", stat.S_IFDIR | mode, dir_uid, 0)
        link = Inode("/t/l", stat.S_IFLNK | 0o777, link_uid, 0)
        assert bool(access.can_follow(directory, link, Credentials(uid, uid))) is want
