"""Users, groups and where each came from; who may log in; becoming a user.

userdb.UserDatabase and passdb.PasswordDatabase answer for a whole configuration;
privileges.become() is the only way to another uid; lookup lets a mail process ask for other users'
homes.  Only values are named here: a mail process must not load the code that checks passwords.
"""

from sharefs.identity.model import Group, MailUser, UnknownUser, Verified

__all__ = ["Group", "MailUser", "UnknownUser", "Verified"]
