"""Rules of a login that are no password: networks, filters, accounts that are closed.  Pure."""

import fnmatch
import ipaddress

from sharefs.identity.fields import Fields
from sharefs.identity.settings import Database, Skip


def refusal(fields: Fields, remote: str) -> str:
    """Why somebody with the right password may still not log in; empty if nothing says so."""
    if "allow_nets" in fields and not in_networks(remote, fields.get("allow_nets")):
        return f"allow_nets={fields.get('allow_nets')} does not have {remote or 'local'}"
    if "nologin" in fields:
        return f"nologin is set: {fields.get('reason') or 'no reason given'}"
    if "fail" in fields:
        return f"fail is set: {fields.get('reason') or 'no reason given'}"
    return ""


def in_networks(remote: str, networks: str) -> bool:
    """Whether allow_nets lets this address in.  remote "": no address, matched by `local` only.

    An entry that does not parse matches nobody.  An IPv4 address inside IPv6 counts as IPv4.
    """
    words = networks.replace(",", " ").split()
    if not remote:
        return "local" in words
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    for word in words:
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            continue
        if address.version == network.version and address in network:
            return True
    return False


def applies(database: Database, user: str, mechanism: str, *, found: bool) -> bool:
    """Whether this passdb is asked at all.  found: an earlier one has let the login in."""
    if database.skip is (Skip.IF_FOUND if found else Skip.IF_NOT_FOUND):
        return False
    if database.mechanisms and mechanism.upper() not in database.mechanisms:
        return False
    wanted = [word for word in database.username_filter if not word.startswith("!")]
    unwanted = [word[1:] for word in database.username_filter if word.startswith("!")]
    if any(fnmatch.fnmatchcase(user, word) for word in unwanted):
        return False
    return not wanted or any(fnmatch.fnmatchcase(user, word) for word in wanted)
