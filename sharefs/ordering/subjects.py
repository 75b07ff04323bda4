"""THREAD=ORDEREDSUBJECT, the poor man's threading: RFC 5256 section 3.  Pure."""

from collections.abc import Iterable
from operator import itemgetter

from sharefs.ordering.facts import Relation
from sharefs.ordering.forest import Forest


def thread_by_subject(messages: Iterable[Relation]) -> Forest:
    """Messages of one base subject are children of the earliest of them, all of one generation."""
    forest = Forest()
    first: dict[bytes, int] = {}
    by_date = sorted(messages, key=itemgetter(1, 0))  # date, uid
    for node, (uid, _, subject, *_) in enumerate(by_date):
        forest.uids.append(uid)
        root = first.setdefault(subject, node)
        if root == node:
            forest.roots.append(node)
        else:
            forest.children.setdefault(root, []).append(node)
    return forest
