"""Upstream played with test data: what is said to ingest, and who plays when."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from ingest.players import Take, Unplayable
from ingest.rehearsal import Rehearsal
from ingest.switches import Switches
from ingest.upstream import Upstream
from shared import config

POLL_S = 0.002


class Stub:
    """A player that notes what it is told; it ends, or fails, when the test says so."""

    def __init__(self, frame: bytes = b"[]") -> None:
        self.frame = frame
        self.held: list[frozenset[str]] = []
        self.runs = 0
        self.is_playing = False
        self.scenarios: list[str] = []
        self.symbols: tuple[str, ...] = ()
        self.speed = 1.0
        self.end = asyncio.Event()
        self.failure: Exception | None = None

    def set_held(self, held: frozenset[str]) -> None:
        self.held.append(held)

    def set_scenario(self, scenario: Any) -> None:
        self.scenarios.append(scenario.name)

    def set_symbols(self, symbols: tuple[str, ...]) -> None:
        self.symbols = symbols

    def set_speed(self, speed: float) -> None:
        self.speed = speed

    def get_status(self) -> dict[str, Any]:
        return {"position_s": 1.0, "total_s": 2.0}

    async def run(self, emit: Callable[[bytes], None]) -> None:
        self.runs += 1
        self.is_playing = True
        try:
            emit(self.frame)
            await self.end.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.is_playing = False


class Stage:
    """A rehearsal, the upstream that it plays, and its players."""

    def __init__(self, **environ: str) -> None:
        self.upstream = Upstream("stocks", "simulated")
        self.frames: list[bytes] = []
        self.market = Stub(b"[market]")
        self.recording = Stub(b"[recording]")
        self.takes: list[Take] = []
        self.changes = 0
        settings = config.load({"ENABLE_TEST_MODE": "true"} | environ)
        self.rehearsal = Rehearsal(self.upstream, self.frames.append, cast(Any, self), settings)
        self.rehearsal.on_changed = self._count
        self.task = asyncio.create_task(self.rehearsal.run())

    def _count(self) -> None:
        self.changes += 1

    def make_simulation(self) -> Stub:
        return self.market

    def make_programme_replay(self, path: str, speed: float) -> Stub:
        return self.make_replay(Take(path))

    def make_replay(self, take: Take) -> Stub:
        if take.path == "absent":
            raise Unplayable("absent: ingest cannot read it")
        self.takes.append(take)
        return self.recording

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not fact():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(POLL_S)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_it_greets_authenticates_and_acks_and_the_player_hears_what_is_held() -> None:
    stage = Stage()
    await stage.until(lambda: stage.upstream.is_live and stage.market.is_playing)
    stage.upstream.set_wanted({"T.AAPL", "Q.*"})
    await stage.until(lambda: stage.upstream.held == {"T.AAPL", "Q.*"})
    assert stage.market.held[-1] == {"T.AAPL", "Q.*"}
    stage.upstream.reconcile.set_wanted({"Q.*"}, -1000.0)
    stage.upstream.on_drop = stage.upstream.drop
    stage.upstream.plan()
    assert stage.market.held[-1] == {"Q.*"}
    await stage.end()


async def test_disabled_means_that_nobody_plays_and_all_that_is_asked_for_is_acked() -> None:
    stage = Stage()
    await stage.until(lambda: stage.market.is_playing)
    stage.rehearsal.enable(False)
    stage.rehearsal.enable(False)
    await stage.until(lambda: not stage.market.is_playing)
    assert stage.changes == 1, "said twice, done once"
    stage.upstream.set_wanted({"T.AAPL"})
    await stage.until(lambda: stage.upstream.held == {"T.AAPL"})
    assert stage.rehearsal.get_indicator().enabled is False
    stage.rehearsal.enable(True)
    await stage.until(lambda: stage.market.is_playing)
    assert stage.market.held[-1] == {"T.AAPL"}
    await stage.end()


async def test_a_guest_plays_until_it_is_over_and_then_the_programme_goes_on() -> None:
    stage = Stage()
    await stage.until(lambda: stage.market.is_playing)
    stage.upstream.set_wanted({"T.*"})
    await stage.until(lambda: stage.upstream.held)
    await stage.rehearsal.play_guest("a1", Take("/data/monday.rec", None))
    await stage.until(lambda: stage.recording.is_playing and not stage.market.is_playing)
    assert stage.recording.held[-1] == {"T.*"}
    indicator = stage.rehearsal.get_indicator()
    assert (indicator.mode, indicator.scenario) == ("replay", "monday.rec")
    status = stage.rehearsal.get_status()
    assert (status["replay"], status["progress"]) == ("a1", {"position_s": 1.0, "total_s": 2.0})
    stage.recording.end.set()
    await stage.until(lambda: stage.market.is_playing)
    assert stage.rehearsal.get_status()["finished"] == "a1"
    assert stage.rehearsal.get_indicator().mode == "simulated"
    assert stage.frames == [b"[market]", b"[recording]", b"[market]"]
    assert stage.upstream.held == {"T.*"} and stage.upstream.drops == 0
    await stage.end()


async def test_only_the_guest_that_is_named_is_stopped() -> None:
    stage = Stage()
    await stage.rehearsal.play_guest("a1", Take("/data/monday.rec"))
    await stage.until(lambda: stage.recording.is_playing)
    stage.rehearsal.stop_guest("b2")
    assert stage.rehearsal.get_status()["replay"] == "a1"
    stage.rehearsal.stop_guest("a1")
    stage.rehearsal.stop_guest("a1")
    await stage.until(lambda: stage.market.is_playing)
    assert stage.rehearsal.get_status()["finished"] == ""
    await stage.end()


async def test_what_cannot_be_played_changes_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("= 1")
    stage = Stage()
    await stage.until(lambda: stage.market.is_playing)
    before = stage.rehearsal.get_status()
    with pytest.raises(Unplayable):
        await stage.rehearsal.play_guest("a1", Take("absent"))
    with pytest.raises(Unplayable):
        await stage.rehearsal.set_scenario("absent")
    with pytest.raises(Unplayable, match=r"bad\.toml"):
        await stage.rehearsal.set_scenario(str(bad))
    assert stage.rehearsal.get_status() == before and stage.changes == 0
    assert stage.market.scenarios == ["normal"] and stage.market.runs == 1
    await stage.end()


async def test_what_was_switched_before_us_is_switched_again_but_for_what_cannot_be_played(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    before = stage.rehearsal.get_switches()
    await stage.rehearsal.restore(before)
    assert stage.changes == 0
    await stage.rehearsal.restore(Switches(False, "halt", 3.0, ("KO",)))
    assert stage.rehearsal.get_switches() == Switches(False, "halt", 3.0, ("KO",))
    assert (stage.market.scenarios, stage.market.symbols, stage.market.speed) == (["normal", "halt"], ("KO",), 3.0)
    await stage.rehearsal.restore(Switches(True, "absent", 3.0, ("KO",)))
    assert stage.rehearsal.get_switches() == Switches(True, "halt", 3.0, ("KO",))
    assert "absent, which cannot be played now" in caplog.text
    await stage.end()


@pytest.mark.parametrize(("is_mixed", "said"), [(False, "the simulator's own symbols"), (True, "no symbols")])
async def test_without_a_list_the_simulator_has_its_own_but_not_beside_live_data(
    is_mixed: bool, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    mix = {"ENABLE_TEST_MODE": "false", "MIX_TEST_DATA": "true", "POLYGON_API_KEY": "a-key", "TEST_SYMBOLS": "AAPL"}
    stage = Stage(**mix if is_mixed else {})
    stage.rehearsal.set_symbols([])
    assert caplog.messages[-1] == f"test data: {said}"
    await stage.end()


async def test_after_a_recording_that_is_the_programme_nothing_comes_until_a_scenario_does() -> None:
    stage = Stage(TEST_SCENARIO="/data/monday.rec")
    await stage.until(lambda: stage.recording.is_playing)
    stage.recording.end.set()
    await stage.until(lambda: stage.rehearsal.get_status()["over"])
    assert stage.market.runs == 0
    await stage.rehearsal.set_scenario("halt")
    await stage.until(lambda: stage.market.is_playing)
    assert stage.market.scenarios == ["halt"] and not stage.rehearsal.get_status()["over"]
    await stage.end()


async def test_a_recording_that_fails_is_over_and_a_market_that_fails_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    stage.recording.failure = OSError("the disk is gone")
    stage.recording.end.set()
    await stage.rehearsal.play_guest("a1", Take("/data/monday.rec"))
    await stage.until(lambda: "the disk is gone" in caplog.text and stage.market.is_playing)
    assert stage.rehearsal.get_status()["finished"] == ""
    stage.market.failure = RuntimeError("a bug")
    stage.market.end.set()
    with pytest.raises(RuntimeError, match="a bug"):
        await stage.task


@pytest.mark.parametrize("turns", range(8))
async def test_a_guest_that_is_stopped_as_it_ends_does_not_silence_the_programme(turns: int) -> None:
    """The operator's word comes so many turns of the event loop after the recording's last frame."""
    stage = Stage()
    await stage.until(lambda: stage.market.is_playing)
    await stage.rehearsal.play_guest("a1", Take("/data/monday.rec"))
    await stage.until(lambda: stage.recording.is_playing)
    stage.recording.end.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    stage.rehearsal.stop_guest("a1")
    await stage.until(lambda: stage.market.is_playing)
    assert not stage.rehearsal.get_status()["over"]
    await stage.end()


@pytest.mark.parametrize("turns", range(8))
async def test_a_scenario_that_comes_as_a_recording_ends_is_played(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    stage = Stage(TEST_SCENARIO="/data/monday.rec")
    await stage.until(lambda: stage.recording.is_playing)
    stage.recording.end.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    await stage.rehearsal.set_scenario("halt")
    await stage.until(lambda: stage.market.is_playing)
    assert not stage.rehearsal.get_status()["over"]
    await stage.end()
