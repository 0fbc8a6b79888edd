"""A clock that only histories move, and one event loop for a whole test."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import shared.demand
from tests.property.clock import Clock
from tests.property.stepped import sleep_after_failure
from tests.property.world import SMALL_CHUNK


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still but for what the history says; scripts take few channels, so that much happens between two."""
    clock = Clock()
    monkeypatch.setattr("gateway.interest.time", clock)
    monkeypatch.setattr("ingest.upstream.time", clock)
    monkeypatch.setattr("gateway.interest.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep_after_failure}))
    monkeypatch.setattr("shared.demand.LEASE_S", 3600.0)  # leases run out when the history says so
    monkeypatch.setattr("shared.demand.CHUNK", SMALL_CHUNK)
    monkeypatch.setattr(shared.demand.chunks, "__defaults__", (SMALL_CHUNK,))
    return clock


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    """Tasks stand still between two calls of its `run`."""
    monkeypatch.setattr("gateway.returning.ASKED_S", 0.0)  # else a gap told once would cover all that follows it
    with asyncio.Runner() as runner:
        yield runner
