"""The rules of the house (docs/architecture.md), as tests over the source."""

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
MODULES = sorted([*TOP.glob("sharefs/**/*.py"), *TOP.glob("imap/**/*.py")])

# Longest matching prefix wins.  A module may import rooms of its own rank and below.
RANK = {
    "sharefs": 0,
    "sharefs.build": 0,
    "sharefs.errors": 0,
    "sharefs.flags": 0,
    "sharefs.rights": 1,
    "sharefs.identifiers": 1,
    "sharefs.acl": 1,
    "sharefs.names": 1,
    "sharefs.permissions": 2,
    "sharefs.fsops": 3,
    "sharefs.dotlock": 3,
    "sharefs.config": 4,
    "sharefs.identity": 5,
    "sharefs.message": 5,
    "sharefs.ordering": 6,
    "sharefs.store": 6,
    "sharefs.index": 7,
    "sharefs.sharing": 7,
    "sharefs.namespaces": 8,
    "sharefs.account": 9,
    "sharefs.mount": 9,
    "sharefs.repair": 9,
    "sharefs.audit": 9,
    "sharefs.cli": 10,
    "sharefs.__main__": 10,
    "imap": 11,
    "imap.wire": 11,
    "imap.view": 12,
    "imap.commands": 13,
    "imap.service": 14,
}

# What may be called only in its home: there it is hardened, and there an auditor looks.
FSOPS = {f"sharefs/fsops/{path.name}" for path in TOP.glob("sharefs/fsops/*.py")}
HOMES = [
    (
        "chmod fchmod chown fchown lchown link rename replace unlink remove mkdir makedirs rmdir"
        " symlink mknod mkfifo truncate",
        FSOPS,
    ),
    (
        "setuid setgid setgroups setresuid setresgid setreuid setregid initgroups chroot",
        {"sharefs/identity/privileges.py"},
    ),
    ("seteuid setegid", set[str]()),
    ("umask", set[str]()),
]
ONLY_IN = {f"os.{call}": home for calls, home in HOMES for call in calls.split()} | {
    call: FSOPS
    for call in ("shutil.rmtree", "shutil.copyfile", "shutil.copy", "shutil.copy2", "shutil.move")
}

TRIO_HOMES = ("imap.service",)
PYFUSE3_HOME = "sharefs.mount"


def dotted(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rank_of(module: str) -> int:
    parts = module.split(".")
    while parts:
        if ".".join(parts) in RANK:
            return RANK[".".join(parts)]
        parts.pop()
    raise AssertionError(f"{module} has no place in the house; give it a rank")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_ours(name: str) -> bool:
    return name.split(".")[0] in {"sharefs", "imap"}


def calls_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_downwards(path: Path) -> None:
    here = rank_of(dotted(path))
    got = {name for name in imported(path) if is_ours(name) and rank_of(name) > here}
    assert not got


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_dangerous_calls_stay_home(path: Path) -> None:
    relative = str(path.relative_to(TOP))
    got = {call for call in calls_in(path) if relative not in ONLY_IN.get(call, {relative})}
    assert not got


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_trio_stays_in_the_service(path: Path) -> None:
    if not dotted(path).startswith(TRIO_HOMES):
        assert "trio" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_pyfuse3_stays_in_the_mount(path: Path) -> None:
    if not dotted(path).startswith(PYFUSE3_HOME):
        assert "pyfuse3" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_every_module_says_its_job(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} lacks a module docstring"
