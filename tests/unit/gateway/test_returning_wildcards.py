"""What a client with a name gets of a wildcard, beside what it held under it."""

from typing import Any

import pytest

import gateway.returning
from gateway.receipt import Lane
from shared.protocol import Status
from tests.unit.gateway.rig import Rig, make_mark


@pytest.fixture
async def rig() -> Any:
    """Held T.A and T.B before, and has authenticated."""
    rig = Rig("T.A", "T.B")
    await rig.claim()
    yield rig
    rig.end_tasks()


@pytest.mark.parametrize("whole", ["T.*", "*"])
async def test_what_comes_whole_already_is_not_caught_up_any_more(rig: Rig, whole: str) -> None:
    """Its events would overtake what was missed."""
    rig.add(whole)
    rig.add("T.A")
    assert (rig.late, rig.live) == (set(), {whole, "T.A"}) and "replay" not in rig.started


@pytest.mark.parametrize("whole", ["T.*", "*"])
async def test_a_new_wildcard_above_what_was_missed_is_not_caught_up_and_waits_in_the_hub(rig: Rig, whole: str) -> None:
    rig.add("T.A", whole, "Q.*")
    assert rig.late == {"T.A"} and rig.live == {whole, "Q.*"}


async def test_a_channel_under_a_wildcard_that_is_caught_up_is_recorded_as_far_as_that() -> None:
    rig = Rig("T.*")
    await rig.claim()
    rig.add("T.*")
    rig.add("T.A", "Q.A")
    assert [part.channels for part in rig.resumer.confirmed] == [["Q.A"], ["T.*", "T.A"]]
    rig.end_tasks()


async def test_what_is_apart_from_a_wildcard_is_left_out_of_its_replay_and_what_had_begun_is_until_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replays: list[tuple[Any, ...]] = []
    monkeypatch.setattr(gateway.returning, "Replay", lambda *args: replays.append(args))
    rig = Rig("T.*")
    await rig.claim()
    rig.resumer.missed.lanes.append(Lane(make_mark(2), ["T.C"]))
    rig.add("T.A", "T.B")
    rig.hub.add(rig.outbox, ["T.A", "T.B"])
    rig.hub.set_ready(["T.A", "T.B"])
    rig.hub.let_in(rig.outbox, frozenset(["T.A", "T.B"]), rig.hub.last_mark)
    rig.started.pop("replay").close()
    rig.give_up("T.B")
    rig.add("T.*", "T.C")
    found = {min(lane.channels): (apart, [lane.channels for lane in got]) for *_, lane, _, apart, got in replays[1:]}
    assert found["T.*"] == ({"T.A", "T.C"}, [{"T.B"}])
    rig.end_tasks()


async def test_a_whole_type_that_is_asked_for_before_everything_is_left_out_of_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replays: list[tuple[Any, ...]] = []
    monkeypatch.setattr(gateway.returning, "Replay", lambda *args: replays.append(args))
    rig = Rig("*")
    await rig.claim()
    rig.add("Q.*")
    rig.add("*")
    assert [(lane.channels, apart) for *_, lane, _, apart, _ in replays] == [({"Q.*"}, set()), ({"*"}, {"Q.*"})]
    rig.end_tasks()


async def test_what_is_caught_up_below_a_wildcard_goes_on_though_it_is_given_up_until_the_wildcard_is_live() -> None:
    """The replay of the wildcard leaves it out, and could not know where to begin with it."""
    rig = Rig("T.*")
    await rig.claim()
    rig.add("T.A")
    rig.add("T.*")
    rig.hub.add(rig.outbox, ["T.A", "T.*"])
    rig.hub.set_ready(["T.A", "T.*"])
    assert rig.give_up("T.A") == set() and rig.late == {"T.A", "T.*"}
    rig.hub.let_in(rig.outbox, frozenset(["T.A"]), rig.hub.last_mark)
    assert rig.give_up() == set()
    rig.hub.let_in(rig.outbox, frozenset(["T.*"]), rig.hub.last_mark)
    assert rig.give_up() == {"T.A"}
    rig.end_tasks()


@pytest.mark.parametrize("wildcard", ["T.*", "*"])
@pytest.mark.parametrize("beside", [(), ("T.A", "Q.A")])
async def test_what_a_new_wildcard_passes_over_is_told_as_a_gap(wildcard: str, beside: tuple[str, ...]) -> None:
    rig = Rig("T.A", "Q.A")
    await rig.claim()
    told: list[Status] = []
    rig.client.send = told.extend  # type: ignore[method-assign, assignment]
    rig.add(wildcard, *beside)
    passed = [] if beside else [["T.A"] if wildcard == "T.*" else ["Q.A", "T.A"]]
    assert [status.message.rpartition("channels: ")[2].split(",") for status in told] == passed
    assert all(status.status == "gap" and "events from 0 to" in status.message for status in told)
    rig.end_tasks()
