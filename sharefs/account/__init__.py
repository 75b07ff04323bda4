"""The one door behind all doors: what one viewer can do to mailboxes, rights checked.

Account is what every door calls; Listed and Selection are the values of its list().
"""

from sharefs.account.account import Account, NamespaceView, Place
from sharefs.account.shares import AclChange, MapReport, ShownAcl
from sharefs.namespaces.listing import Listed, Selection

__all__ = [
    "Account",
    "AclChange",
    "Listed",
    "MapReport",
    "NamespaceView",
    "Place",
    "Selection",
    "ShownAcl",
]
