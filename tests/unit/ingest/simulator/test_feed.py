"""The simulation in real time: pace, speed, switching, and its memory in Redis."""

import asyncio
import json
import logging
import time
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from ingest.simulator.feed import Simulation
from ingest.simulator.market import Market
from ingest.simulator.scenario import Phase
from shared.config import load
from shared.names import Names
from tests.unit.ingest.simulator.played import EVERYTHING, Event, at, make_scenario, pick


class Memory:
    """The two commands of Redis that a simulation uses."""

    def __init__(self, value: bytes | None = None, fails: bool = False) -> None:
        self.value, self.fails, self.writes = value, fails, 0
        self.hangs = False

    async def get(self, name: str) -> bytes | None:
        assert name == "polygon:{stocks}:market"
        self._fail()
        return self.value

    async def set(self, name: str, value: bytes) -> None:
        assert name == "polygon:{stocks}:market"
        self.writes += 1
        self._fail()
        if self.hangs:
            await asyncio.Event().wait()
        self.value = value

    def _fail(self) -> None:
        if self.fails:
            raise RedisConnectionError("away")


class Running:
    """A simulation that runs, and what it emitted."""

    def __init__(self, memory: Memory | None = None, **variables: str) -> None:
        config = load({"TEST_SYMBOLS": "AAPL,SPY", "TEST_RATE": "2000", **variables})
        self.simulation = Simulation(config, memory, Names("stocks"))  # type: ignore[arg-type]
        self.simulation.set_held(EVERYTHING)
        self.events: list[Event] = []

    async def __aenter__(self) -> "Running":
        self.task = asyncio.create_task(self.simulation.run(lambda frame: self.events.extend(json.loads(frame))))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=5)
        assert self.task.done(), "a run ends when it is cancelled"

    async def until(self, fact: Any, limit_s: float = 20) -> None:
        """Wait for what `fact` says of the events."""
        async with asyncio.timeout(limit_s):
            while not fact(self.events):
                assert not self.task.done(), self.task.result()
                await asyncio.sleep(0.01)


@pytest.fixture
def fast_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.simulator.feed._SAVE_EVERY_S", 0.05)


def count(number: int) -> Any:
    return lambda events: len(events) >= number


async def test_events_have_the_time_of_now() -> None:
    before = time.time() * 1000
    async with Running() as running:
        await running.until(count(400))
        now = time.time() * 1000
    times = [e["t"] for e in pick(running.events, "T", "Q")]
    assert times == sorted(times)
    assert before - 1000 <= times[0] and times[-1] <= now


async def test_speed_is_a_factor_on_time_and_rate() -> None:
    async with Running(TEST_SPEED="20", TEST_START="2026-11-20T12:00:00", TEST_RATE="300") as running:
        begin = time.monotonic()
        await running.until(count(6000))
        took = time.monotonic() - begin
    times = [e["t"] for e in pick(running.events, "T", "Q")]
    assert (times[-1] - times[0]) / 1000 == pytest.approx(20, rel=0.2)
    assert took > 0.7


async def test_speed_can_be_changed_while_it_runs() -> None:
    async with Running(TEST_START="2026-11-20T12:00:00", TEST_RATE="100") as running:
        await running.until(count(5))
        running.simulation.set_speed(200)
        await running.until(
            lambda events: events[-1].get("t", 0) - events[0].get("t", 0) > 30_000 or len(events) > 9000
        )


@pytest.mark.parametrize(
    ("start", "following"),
    [
        ("2026-11-20T19:59:58", "2026-11-23T04:00:00"),  # a Friday
        ("2026-11-27T16:59:58", "2026-11-30T04:00:00"),  # a half day
        ("2026-11-20T00:00:00", "2026-11-20T04:00:00"),
        ("2026-11-21T12:00:00", "2026-11-23T04:00:00"),  # a Saturday
        ("2026-11-26T12:00:00", "2026-11-27T04:00:00"),  # a holiday
    ],
)
async def test_what_comes_while_closed_is_the_next_trading_day(
    start: str, following: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Running(TEST_START=start, TEST_RATE="2000", TEST_SPEED="4") as running:
        await running.until(lambda events: any(e["t"] >= at(following) for e in pick(events, "T", "Q")))
    bars = [bar for bar in pick(running.events, "A") if bar["e"] < at(following)]
    times = [e["t"] for e in pick(running.events, "T", "Q")]
    first = next(t for t in times if t >= at(following))
    assert first < at(following) + 5000 and times == sorted(times)
    if start.endswith("59:58"):
        assert bars and max(bar["e"] for bar in bars) == at(start) + 2000, "bars of the evening were sent before"
    assert [r for r in caplog.records if "stood still" in r.message] == []


@pytest.mark.parametrize("speed", ["1", "0.05"])
async def test_scenario_takes_effect_at_once_at_any_speed(speed: str) -> None:
    async with Running(TEST_SPEED=speed) as running:
        await running.until(count(20))
        running.simulation.set_scenario(make_scenario(Phase(name="halt", seconds=60, halt="level1")))
        begin = time.monotonic()
        await running.until(lambda events: any(q["c"] == 36 for q in pick(events, "Q")))
        assert time.monotonic() - begin < 0.9


async def test_symbols_can_be_changed_while_it_runs_and_those_that_stay_keep_their_prices() -> None:
    async with Running() as running:
        await running.until(count(300))
        last = pick(running.events, "Q", symbol="SPY")[-1]
        running.simulation.set_symbols(("SPY", "F"))
        seen = len(running.events)
        await running.until(count(seen + 300))
    after = running.events[seen:]
    assert {e["sym"] for e in pick(after, "T", "Q")} == {"SPY", "F"}
    assert pick(after, "Q", symbol="SPY")[0]["bp"] == pytest.approx(last["bp"], rel=0.002)
    assert pick(after, "Q", symbol="SPY")[0]["q"] > last["q"]


async def test_it_can_be_played_again_and_goes_on_at_the_time_of_now() -> None:
    async with Running() as running:
        await running.until(count(300))
    await asyncio.sleep(1.2)  # nobody plays
    last, seen, again = running.events[-1], len(running.events), time.time() * 1000
    async with running:
        await running.until(count(seen + 300))
    first = pick(running.events[seen:], "Q", symbol="SPY")[0]
    assert first["t"] >= again - 1000
    assert first["bp"] == pytest.approx(pick(running.events[:seen], "Q", symbol="SPY")[-1]["bp"], rel=0.002)
    assert last["t"] < first["t"]


async def test_what_is_not_held_is_not_emitted() -> None:
    async with Running() as running:
        running.simulation.set_held(frozenset({"T.SPY"}))
        await running.until(count(50))
    assert {(e["ev"], e["sym"]) for e in running.events} == {("T", "SPY")}


@pytest.mark.parametrize("pause_s", [0, 1.2])
async def test_what_a_scenario_made_of_prices_outlasts_a_pause(pause_s: float) -> None:
    async with Running() as running:
        running.simulation.set_scenario(make_scenario(Phase(name="jump", seconds=0, jump=30)))
        await running.until(lambda events: len(pick(events, "LULD")) > 2 and len(events) > 500)
    await asyncio.sleep(pause_s)  # something else is played
    last, seen = pick(running.events, "Q", symbol="SPY")[-1], len(running.events)
    async with running:
        await running.until(count(seen + 300))
    after = pick(running.events[seen:], "Q", symbol="SPY")
    assert {round(quote["bp"] / last["bp"], 2) for quote in after} == {1}
    assert all(quote["q"] > last["q"] for quote in after)


async def test_a_scenario_that_is_set_while_nobody_plays_begins_then_and_not_where_the_market_stands() -> None:
    async with Running() as running:
        await running.until(count(300))
    await asyncio.sleep(2.2)
    set_ms, seen = time.time() * 1000, len(running.events)
    running.simulation.set_scenario(make_scenario(Phase(name="halt", seconds=2, halt="level1")))
    async with running:
        await running.until(lambda events: any(t["t"] > set_ms + 1500 for t in pick(events[seen:], "T")))
    after = running.events[seen:]
    assert max(q["t"] for q in pick(after, "Q") if q["c"] == 36) >= set_ms - 1000
    assert min(t["t"] for t in pick(after, "T")) > set_ms


async def test_a_scenario_that_is_set_before_the_market_ever_played_begins_when_it_is_set() -> None:
    running = Running()
    await asyncio.sleep(2.2)
    set_ms = time.time() * 1000
    running.simulation.set_scenario(make_scenario(Phase(name="halt", seconds=2, halt="level1")))
    async with running:
        await running.until(lambda events: any(t["t"] > set_ms + 1500 for t in pick(events, "T")))
    # The market's first second is under way when it begins.
    assert not [t["t"] for t in pick(running.events, "T") if set_ms + 1000 <= t["t"] < set_ms + 2000]


async def test_a_market_that_stood_still_goes_on_at_the_time_of_now_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Running() as running:
        await running.until(count(300))
        time.sleep(2.2)  # noqa: ASYNC251  as a process does that was stopped
        seen, again = len(running.events), time.time() * 1000
        await running.until(count(seen + 300))
    times = [e["t"] for e in pick(running.events[seen:], "T", "Q")]
    assert again - 1100 <= times[0] and times == sorted(times)
    assert len([r for r in caplog.records if "it goes on at the time of now" in r.message]) == 1


@pytest.mark.usefixtures("fast_saving")
async def test_another_run_goes_on_where_the_last_one_was() -> None:
    memory = Memory()
    async with Running(memory) as first:
        await first.until(lambda events: memory.writes > 2 and len(events) > 300)
    assert memory.value is not None
    state = json.loads(memory.value)
    async with Running(memory) as second:
        await second.until(count(20))
    for symbol in ("AAPL", "SPY"):
        quotes = pick(second.events, "Q", symbol=symbol)
        assert quotes[0]["bp"] * 10_000 == pytest.approx(state["stocks"][symbol]["fair"], rel=0.002)


async def test_the_end_of_a_run_is_saved() -> None:
    memory = Memory()
    async with Running(memory) as running:
        await running.until(count(300))
    assert memory.value is not None
    newest = max(e["q"] for e in pick(running.events, "T", "Q", "LULD"))
    assert json.loads(memory.value)["sequence"] == newest


async def test_what_another_run_saved_may_be_old_so_its_numbers_are_not_used_again() -> None:
    memory = Memory()
    async with Running(memory) as first:
        await first.until(count(300))
    async with Running(memory) as second:
        await second.until(count(300))
    numbers = [[e["q"] for e in pick(run.events, "T", "Q")] for run in (first, second)]
    assert min(numbers[1]) > max(numbers[0]) + 1_000_000


@pytest.mark.parametrize(("hangs", "fails"), [(True, False), (False, True)])
async def test_a_run_ends_within_a_second_though_redis_does_not_answer(hangs: bool, fails: bool) -> None:
    memory = Memory()
    running = Running(memory)
    async with running:
        await running.until(count(300))
        memory.hangs, memory.fails = hangs, fails
        begin = time.monotonic()
    assert running.task.cancelled() and time.monotonic() - begin < 1
    assert memory.writes


async def test_a_short_pause_changes_nothing_about_the_market() -> None:
    async with Running() as running:
        await running.until(count(3000))
    seen = len(running.events)
    async with running:
        await running.until(count(seen + 6000))
    numbers = [e["q"] for e in pick(running.events, "T", "Q", "LULD")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    told = [e["t"] // 10**9 for e in pick(running.events, "LULD")]
    assert len(set(told)) == 1, "the bands of the beginning, which no other market repeats"


async def test_a_scenario_for_symbols_that_are_not_simulated_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    running = Running()
    phase = Phase(name="jump", seconds=5, jump=3)
    running.simulation.set_scenario(make_scenario(phase, symbols=frozenset({"SPY", "F"})))
    running.simulation.set_scenario(make_scenario(Phase(name="h", seconds=5, halt="level1"), symbols=frozenset({"F"})))
    assert caplog.records == []
    running.simulation.set_scenario(make_scenario(phase, symbols=frozenset({"F", "ZZB"})))
    assert [r.message for r in caplog.records] == ["scenario test has no effect: none of its symbols is simulated"]


@pytest.mark.usefixtures("fast_saving")
@pytest.mark.parametrize(("took_s", "wait_s"), [(0.0, 0.05), (0.002, 0.2), (0.02, 0.5)])
async def test_who_takes_long_to_save_is_saved_less_often(
    took_s: float, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_state(_market: Market) -> bytes:
        time.sleep(took_s)  # thousands of symbols
        return b""

    monkeypatch.setattr("ingest.simulator.feed._SAVE_LATEST_S", 0.5)
    monkeypatch.setattr(Market, "get_state", get_state)
    memory = Memory()
    async with Running(memory) as running:
        await running.until(lambda _: memory.writes > 0)
        begin = time.monotonic()
        await running.until(lambda _: memory.writes > 3)
        assert 3 * wait_s - 0.05 <= time.monotonic() - begin < 3 * wait_s + 1.0


@pytest.mark.usefixtures("fast_saving")
async def test_with_a_seed_nothing_is_loaded_or_saved() -> None:
    memory = Memory(b"never read")
    runs = []
    for _ in range(2):
        async with Running(memory, TEST_SEED="5", TEST_START="2026-11-20T12:00:00") as running:
            await running.until(count(500))
        runs.append(running.events[:500])
    assert runs[0] == runs[1]
    assert memory.value == b"never read" and memory.writes == 0


@pytest.mark.usefixtures("fast_saving")
@pytest.mark.parametrize("memory", [Memory(b"no state"), Memory(b"\xff"), Memory(fails=True)])
async def test_a_bad_state_or_no_redis_does_not_stop_it(memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    async with Running(memory) as running:
        await running.until(lambda events: len(events) > 100 and memory.writes > 3)
    assert len([r for r in caplog.records if "usual prices" in r.message]) == 1
    assert len([r for r in caplog.records if "not saved" in r.message]) == (1 if memory.fails else 0)


async def test_what_it_cannot_keep_up_with_makes_time_slip_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    turns = 0
    async with Running(TEST_RATE="200000", TEST_SPEED="1000", TEST_START="2026-11-20T10:00:00") as running:
        running.simulation.set_held(frozenset())
        begin = time.monotonic()
        while time.monotonic() - begin < 1.5:
            await asyncio.sleep(0)  # the event loop gets its turn all the time
            turns += 1
        running.simulation.set_held(EVERYTHING)
        await running.until(count(1))
    assert turns > 50
    assert len([r for r in caplog.records if "cannot keep up" in r.message]) == 1
