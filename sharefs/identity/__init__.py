"""Users, groups and where each came from; who may log in; becoming a user.

UserDatabase and PasswordDatabase answer for a whole configuration; privileges.become() is the
only way to another uid; lookup.py lets a mail process ask for other users' homes.
"""

from sharefs.identity.model import Group, MailUser, UnknownUser, Verified
from sharefs.identity.passdb import AuthFailed, PasswordDatabase
from sharefs.identity.userdb import UserDatabase

__all__ = [
    "AuthFailed",
    "Group",
    "MailUser",
    "PasswordDatabase",
    "UnknownUser",
    "UserDatabase",
    "Verified",
]
