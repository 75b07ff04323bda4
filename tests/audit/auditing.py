"""Audits of the small host, and shares on it."""

from collections.abc import Sequence

from sharefs.account import Account as MailAccount
from sharefs.acl import Mode
from sharefs.audit.audit import Audit
from sharefs.audit.facts import Account, ProcessFacts
from sharefs.audit.findings import Finding
from sharefs.audit.output import in_order
from sharefs.identifiers import user
from sharefs.rights import Rights
from tests.account.world import World, append


def audited(
    host: World,
    *,
    accounts: Sequence[Account] = (),
    processes: Sequence[ProcessFacts] = (),
    only: Sequence[str] = (),
) -> list[Finding]:
    """What an audit finds, on a host with these login shells and processes."""
    audit = Audit(host.config, host.users, only, accounts=list(accounts), processes=list(processes))
    return in_order(audit.run())


def rules(findings: Sequence[Finding]) -> set[str]:
    return {finding.rule for finding in findings}


def one(findings: Sequence[Finding], rule: str) -> Finding:
    """The only finding of a rule."""
    found = [finding for finding in findings if finding.rule == rule]
    assert len(found) == 1, (rule, findings)
    return found[0]


def share(host: World, name: str = "Work", who: str = "bob", letters: str = "lrswite") -> None:
    """alice shares a mailbox with a message in it."""

    def act(account: MailAccount) -> None:
        if not account.exists(name):
            account.create(name)
            append(account, name)
        if letters:
            account.set_acl(name, user(who), Mode.REPLACE, Rights(letters))

    host.as_user("alice", act)
