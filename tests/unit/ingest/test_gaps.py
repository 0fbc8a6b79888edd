"""From a loss of upstream to the gap that is told: opened once, closed when what is wanted is held, never forgotten."""

import pytest

import ingest.upstream
from ingest.upstream import Upstream
from shared.gap import Gap, decode_gap, encode_gap
from shared.protocol import AUTH_SUCCESS, CONNECTED, Status, encode_status, parse_action, subscribed
from tests.property.clock import Clock


class Rig:
    """An upstream whose server acks what it is told to."""

    def __init__(self) -> None:
        self.upstream = Upstream("stocks", "key")
        self.gaps: list[Gap] = []
        self.sent: list[str] = []
        self.upstream.on_gap = self.gaps.append
        self.upstream.get_last_event_us = lambda: 999_000_000  # Unix microseconds

    def say(self, status: Status) -> None:
        self.upstream.on_status(encode_status(status))

    def go_live(self) -> None:
        self.upstream.opened(self.sent.append)
        self.say(CONNECTED)
        self.say(AUTH_SUCCESS)

    def ack(self, *but: str) -> None:
        """All that was asked for, until nothing more is."""
        while self.sent:
            action = parse_action(self.sent.pop(0))
            for channel in action.params.split(",") if action.action == "subscribe" else []:
                if channel not in but:
                    self.say(subscribed(channel))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ingest.upstream, "time", clock)
    return clock


@pytest.fixture
async def rig(clock: Clock) -> Rig:
    rig = Rig()
    rig.upstream.set_wanted(["T.AAPL", "Q.*"])
    rig.go_live()
    rig.ack()
    assert rig.gaps == []  # nothing was wanted before, as far as this process knows
    return rig


async def test_gap_reaches_from_the_last_event_to_the_last_ack(rig: Rig, clock: Clock) -> None:
    rig.upstream.closed("why")
    clock.now_s += 3
    rig.go_live()
    assert rig.gaps == []
    clock.now_s += 1
    rig.ack()
    assert rig.gaps == [Gap(999_000, 1_004_000, "why", ["Q.*", "T.AAPL"])]
    assert decode_gap(encode_gap(rig.gaps[0])) == rig.gaps[0]


async def test_second_loss_within_a_gap_leaves_it_one_gap(rig: Rig, clock: Clock) -> None:
    rig.upstream.closed("first")
    rig.go_live()
    clock.now_s += 2
    rig.upstream.closed("second")
    rig.go_live()
    rig.ack()
    assert [(gap.from_ms, gap.to_ms, gap.cause) for gap in rig.gaps] == [(999_000, 1_002_000, "first")]


async def test_last_event_of_long_ago_does_not_make_a_gap_of_a_silent_night(rig: Rig, clock: Clock) -> None:
    for _ in range(36_000):
        clock.now_s += 1
        rig.upstream.tick()
    rig.upstream.closed("why")
    rig.go_live()
    rig.ack()
    assert rig.gaps[0].from_ms == int((clock.now_s - 90) * 1000)


@pytest.mark.parametrize(("ends_after_s", "from_s"), [(0, 1000), (80, 1000), (100, 1400)])
async def test_gap_after_a_standstill_reaches_from_its_beginning_since_what_came_then_is_no_newer(
    rig: Rig, clock: Clock, ends_after_s: int, from_s: int
) -> None:
    """What the socket had buffered comes first, and then the end.  A connection that outlives it has lost nothing."""
    rig.upstream.get_last_event_us = lambda: int(clock.now_s * 1e6)
    clock.now_s += 300
    for _ in range(ends_after_s):
        rig.upstream.tick()
        clock.now_s += 1
    rig.upstream.closed("why")
    rig.go_live()
    rig.ack()
    assert rig.gaps[0].from_ms == from_s * 1000


@pytest.mark.parametrize("asserted", [[], ["T.AAPL"]])
async def test_gap_concerns_all_also_while_a_redis_that_lost_its_counts_knows_of_few(
    rig: Rig, asserted: list[str]
) -> None:
    """Gateways assert again within seconds, one after the other; their clients were without events all the time."""
    rig.upstream.closed("why")
    rig.upstream.set_wanted(asserted)
    rig.go_live()
    rig.ack()
    rig.upstream.set_wanted(["T.AAPL", "Q.*"])
    rig.ack()
    assert [gap.channels for gap in rig.gaps] == [["Q.*", "T.AAPL"]]


async def test_new_ingest_tells_the_gap_also_if_demand_comes_only_after_it_went_live(clock: Clock) -> None:
    rig = Rig()
    rig.upstream.open_gap(998_000, "another ingest took over")
    rig.go_live()
    rig.upstream.set_wanted(["T.AAPL"])
    rig.ack()
    assert [(gap.from_ms, gap.channels) for gap in rig.gaps] == [(998_000, ["T.AAPL"])]


async def test_channel_that_upstream_never_acks_does_not_hold_the_gap_of_the_others_up(rig: Rig, clock: Clock) -> None:
    rig.upstream.closed("why")
    rig.go_live()
    for _ in range(40):  # 10 s
        rig.ack("Q.*")
        clock.now_s += 0.25
        rig.upstream.plan()
    assert len(rig.gaps) == 1
    assert "T.AAPL" in rig.gaps[0].channels


async def test_channel_that_upstream_refuses_does_not_hold_the_gap_of_the_others_up(rig: Rig, clock: Clock) -> None:
    rig.upstream.closed("why")
    rig.go_live()
    rig.say(Status("status", "error", "not authorized"))
    for _ in range(40):  # 10 s
        rig.ack("Q.*")
        clock.now_s += 0.25
        rig.upstream.plan()
    assert len(rig.gaps) == 1


async def test_new_subscriptions_one_after_the_other_do_not_hold_the_gap_up(rig: Rig, clock: Clock) -> None:
    """Every ack comes 100 ms late, and by then somebody wants the next channel: on a busy morning this goes on."""
    rig.upstream.closed("why")
    rig.go_live()
    for number in range(100):  # 10 s
        rig.upstream.update_wanted([f"T.S{number:03}"], [])
        clock.now_s += 0.1
        waiting, rig.sent[:] = rig.sent[:], []
        for text in waiting:
            for channel in parse_action(text).params.split(","):
                rig.upstream.update_wanted([f"A.S{number:03}"], [])
                rig.say(subscribed(channel))
    assert len(rig.gaps) == 1
    assert rig.gaps[0].to_ms < 1_003_000
