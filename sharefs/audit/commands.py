"""Commands that cure findings, for an administrator to read and type.  Pure.

Names come from users, who may call a mailbox `'; reboot; '`: every word is quoted for the shell,
and none is taken for an option.
"""

import shlex

from sharefs.audit.facts import BoxFacts, RootFacts


def line(*words: object) -> str:
    return shlex.join(str(word) for word in words)


def planned(strategy: str, root: RootFacts) -> tuple[str, ...]:
    """Plan, read, apply: docs/repair.md."""
    whose = ("-u", root.owner) if root.owner else ("-A", "--namespace", root.namespace)
    file = f"{(root.owner or root.namespace).replace('/', '_')}-{strategy}.plan"
    plan = line("sharefs", "plan", *whose, strategy, "-o", f"./{file}")
    return f"{plan}  # then read it", line("sharefs", "apply", "--yes", f"./{file}")


def formatted(box: BoxFacts) -> tuple[str, ...]:
    """Look at what would change in an ACL file, then change it."""
    if not box.owner:
        return ()
    words = ("sharefs", "acl", "fmt", "-u", box.owner)
    return f"{line(*words, '--', box.name)}  # then read it", line(*words, "--yes", "--", box.name)


def on_acl(verb: str, box: BoxFacts, *words: str) -> tuple[str, ...]:
    """sharefs acl VERB.  Nothing for public mail, of which no user's name is known here."""
    if not box.owner:
        return ()
    return (line("sharefs", "acl", verb, "-u", box.owner, "--", box.name, *words),)
