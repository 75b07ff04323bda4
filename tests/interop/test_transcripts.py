"""Conversations with a host of several users, one file for each claim."""

from pathlib import Path
from typing import Final

import pytest

from tests.interop.host import Host
from tests.interop.hosts import KINDS, without_index
from tests.interop.transcript import Transcript, play, transcripts

pytestmark = [pytest.mark.superuser]

UNINDEXED: Final = {name: without_index(kind) for name, kind in KINDS.items()}
SCRIPTS: Final = tuple(transcripts(Path(__file__).parent / "transcripts"))


@pytest.mark.parametrize(
    ("running", "script"),
    [
        pytest.param(KINDS[script.host], script, id=script.path.stem)
        for script in SCRIPTS
        if script.index != "no"
    ]
    + [
        pytest.param(UNINDEXED[script.host], script, id=f"{script.path.stem}-unindexed")
        for script in SCRIPTS
        if script.index != "yes"
    ],
    indirect=["running"],
    scope="module",  # or every test would have a server of its own
)
def test_transcript(host: Host, script: Transcript) -> None:
    play(script, host)


def test_every_transcript_states_its_claim_and_a_host() -> None:
    assert {script.host for script in SCRIPTS} == set(KINDS)
    for script in SCRIPTS:
        assert script.claim, script.path.name
