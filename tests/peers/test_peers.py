"""The guide's table of traps is what comes of every way whose package is here: ours and a loop always."""

from __future__ import annotations

import warnings

import pytest
from others import PEERS, Peer
from table import column_of, columns
from traps import TRAPS

HERE = [peer for peer in PEERS if peer.version == peer.tried]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("peer", HERE, ids=lambda peer: peer.name)
def test_a_column_is_what_was_measured(peer: Peer) -> None:
    with warnings.catch_warnings():
        if peer.name != "initplug":
            warnings.simplefilter("ignore")  # theirs
        assert column_of(peer) == columns()[peer.name]


def test_nothing_is_silent_here() -> None:
    ours = dict(zip((trap.title for trap in TRAPS), columns()["initplug"], strict=True))
    assert len(ours) == 15
    assert not [title for title, cell in ours.items() if "silent" in cell or "lost" in cell]
