"""Clients come and go at random while gateways are killed; the refcount stays right, and nobody misses an event.

`make soak-demand` runs the long edition: 500 clients for 60 s, three kills.
"""

import os
from pathlib import Path

import pytest

from tests.churn import Churn, Plan
from tests.proxy import running_proxy

IS_SOAK = bool(os.environ.get("POLYGON_PROXY_SOAK"))
LONG = Plan(clients=500, seconds=60.0, kills=3, symbols=1000, rate=1000.0)
SHORT = Plan(clients=60, seconds=5.0, kills=1, symbols=50)
PLAN = LONG if IS_SOAK else SHORT


@pytest.mark.timeout(150)
async def test_after_clients_came_and_went_and_gateways_died_counts_are_exact_and_survivors_missed_nothing(
    tmp_path: Path,
) -> None:
    async with running_proxy(tmp_path, gateways=2, LOG_LEVEL="info") as proxy:
        report = await Churn(proxy, PLAN).run()
    print(report)
    assert report.faults == []
    assert report.sessions > PLAN.clients
    assert report.cut_off > 0, "the kill cut nobody off, so it proved nothing"
    assert report.events > 0
