"""Runs `sharefs` in this process, as its entry point would, on the small host of account tests."""

import json
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from sharefs.cli import main
from tests.account.world import World


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        got = json.loads(self.out)
        assert isinstance(got, list)
        return got

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """run("acl get -u alice Work"): words are split at spaces; a list is taken as it is."""

    def __init__(self, world: World, capfd: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capfd = capfd

    def run(self, words: str | list[str]) -> Done:
        argv = words.split() if isinstance(words, str) else words
        self._capfd.readouterr()
        try:
            # Other tests run servers under the same uids: what runs on the host is not asked.
            with mock.patch("sharefs.audit.audit.mail_processes", list):
                main(["-c", str(self.world.config_path), *argv])
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        out, err = self._capfd.readouterr()
        return Done(status, out, err)

    def ok(self, words: str | list[str]) -> Done:
        done = self.run(words)
        assert (done.status, done.err) == (0, ""), done
        return done
