"""Everything breaks once, in any order, under load: each event once for whoever stays or resumes, or a notice of it.

`make soak` runs the long edition.  Here the rate is a tenth, and so are the bounds at which a client counts as slow.
"""

import time
from pathlib import Path

import pytest
import uvloop

from tests.soak.faults import FAULTS
from tests.soak.person import CRASHED, CUT, KILLED, RESTARTED
from tests.soak.run import Soak, soak
from tests.soak.stage import Plan


@pytest.mark.timeout(180)
def test_whatever_breaks_each_event_comes_once_or_is_told_to_be_missing(tmp_path: Path) -> None:
    seed = int(time.time())
    plan = Plan(2000.0, 2, 20, 25, 8, 2, seed, write_limit_bytes=32 * 1024, buffer_events=800)
    run: Soak = uvloop.run(soak(plan, tmp_path, FAULTS, 0.0, (0.1, 0.4), print))
    print(f"seed {seed}\n{run.render()}")
    assert run.is_passed, run.render()
    assert run.times.keys() == {fault.name for fault in FAULTS}
    assert {CRASHED, CUT, KILLED, RESTARTED} <= run.ends.keys(), "a fault befell nobody, so it proved nothing"
    assert run.account.conflated > 0, "nobody was slow, so that proved nothing"
    assert run.account.told.total() > 0, "upstream was never away, so that proved nothing"
