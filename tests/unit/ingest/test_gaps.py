"""From a loss of upstream to the gap that is told: opened once, closed when what is wanted is held, never forgotten."""

import pytest

import ingest.upstream
from ingest.reconcile import ACTION_CHANNELS
from ingest.upstream import Upstream
from shared.demand import ASKED_S
from shared.gap import Gap, decode_gap, encode_gap
from shared.protocol import AUTH_SUCCESS, CONNECTED, Status, encode_status, parse_action, subscribed
from tests.property.clock import Clock


class Rig:
    """An upstream whose server acks what it is told to."""

    def __init__(self) -> None:
        self.upstream = Upstream("stocks", "key")
        self.gaps: list[Gap] = []
        self.sent: list[str] = []
        self.told: list[Gap] = []
        self.upstream.on_gap = self.gaps.append
        self.upstream.on_gap_told = self.told.append
        self.upstream.get_last_event_us = lambda: 999_000_000  # Unix microseconds

    def count_asked(self) -> int:
        """Subscribes under way."""
        return sum(parse_action(text).action == "subscribe" for text in self.sent)

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
    clock.now_s -= 2
    rig = Rig()
    rig.upstream.set_wanted(["T.AAPL", "Q.*"])
    rig.go_live()
    rig.ack()
    assert rig.gaps == []  # nothing was wanted before, as far as this process knows
    clock.now_s += 2
    rig.upstream.tick()
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


async def test_clients_are_told_before_upstream_is_asked_again_up_to_when_it_surely_sends(
    rig: Rig, clock: Clock
) -> None:
    """Some channels flow again before the last one is held."""
    asked_when_told: list[int] = []

    def hear(gap: Gap) -> None:
        rig.told.append(gap)
        asked_when_told.append(rig.count_asked())

    rig.upstream.on_gap_told = hear
    rig.upstream.closed("why")
    clock.now_s += 3
    rig.go_live()
    assert rig.told == [Gap(999_000, 1_003_000 + int(ASKED_S * 1000), "why", ["Q.*", "T.AAPL"])]
    assert asked_when_told == [0] and rig.count_asked() == 1
    rig.ack()
    assert len(rig.told) == len(rig.gaps) == 1


async def test_clients_are_told_of_the_rest_before_what_they_were_told_has_passed(rig: Rig, clock: Clock) -> None:
    """Upstream is silent, so each subscribe takes 2 s."""
    rig.upstream.set_wanted([f"T.S{number}" for number in range(4 * ACTION_CHANNELS)])
    rig.upstream.closed("why")
    rig.go_live()
    began_s = clock.now_s
    while not rig.gaps:
        clock.now_s += 0.25
        rig.upstream.tick()
        assert clock.now_s * 1000 < rig.told[-1].to_ms
    assert clock.now_s - began_s > 2 * ASKED_S
    first, *rest = rig.told
    assert set(rest[-1].channels) < set(first.channels), "what is held is not missing any more"
    assert rig.gaps[0].channels == first.channels


async def test_whoever_is_wanted_since_is_told_too_if_upstream_is_lost_again(rig: Rig, clock: Clock) -> None:
    rig.upstream.closed("first")
    rig.go_live()
    rig.upstream.update_wanted(["T.MSFT"], [])
    assert "T.MSFT" not in rig.told[-1].channels
    rig.upstream.closed("second")
    rig.go_live()
    assert "T.MSFT" in rig.told[-1].channels


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


# An ingest that inherits nothing expects a gap from 1003 s on.


@pytest.fixture
def new(clock: Clock) -> Rig:
    rig = Rig()
    rig.upstream.expect_gap(int((clock.now_s + 3) * 1000), "a new ingest had to wait for upstream")
    return rig


def pass_time(rig: Rig, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / 0.25)):
        clock.now_s += 0.25
        rig.upstream.tick()


@pytest.mark.parametrize("asserted_at_s", [0, 2.5, 3, 4, 40])
async def test_new_ingest_whose_upstream_is_ready_in_time_tells_no_gap_whenever_demand_comes(
    new: Rig, clock: Clock, asserted_at_s: float
) -> None:
    new.go_live()
    pass_time(new, clock, asserted_at_s)
    new.upstream.set_wanted(["T.AAPL"])
    pass_time(new, clock, 1)
    new.ack()
    pass_time(new, clock, 50 - asserted_at_s)
    assert new.upstream.held == {"T.AAPL"}
    assert new.gaps == []


async def test_new_ingest_whose_clients_wait_tells_no_gap_if_upstream_is_ready_in_time(new: Rig, clock: Clock) -> None:
    new.upstream.set_wanted(["T.AAPL", "Q.*"])
    pass_time(new, clock, 2)
    new.go_live()
    new.ack()
    pass_time(new, clock, 10)
    assert new.gaps == []


async def test_new_ingest_tells_no_gap_for_an_ack_that_is_under_way_as_its_time_runs_out(
    new: Rig, clock: Clock
) -> None:
    """Else a topic that upstream does not know, and is silent about for 2 s, would cost a new system's clients one."""
    new.go_live()
    pass_time(new, clock, 2)
    new.upstream.set_wanted(["X.UNKNOWN", "T.AAPL"])
    new.ack("X.UNKNOWN")
    pass_time(new, clock, 10)
    assert new.upstream.held == {"X.UNKNOWN", "T.AAPL"}
    assert new.gaps == []


async def test_new_ingest_that_waits_for_upstream_tells_a_gap_from_when_gateways_told_of_no_more(
    new: Rig, clock: Clock
) -> None:
    new.upstream.set_wanted(["T.AAPL"])
    pass_time(new, clock, 10)
    new.upstream.update_wanted(["Q.*"], [])
    new.go_live()
    clock.now_s += 1
    new.ack()
    assert new.gaps == [Gap(1_003_000, 1_011_000, "a new ingest had to wait for upstream", ["Q.*", "T.AAPL"])]


async def test_new_ingests_gap_has_no_hole_if_upstream_comes_just_as_its_time_runs_out(new: Rig, clock: Clock) -> None:
    """Between two rounds of the clock."""
    new.upstream.set_wanted(["T.AAPL"])
    pass_time(new, clock, 2.75)
    clock.now_s += 0.3
    new.go_live()
    new.ack()
    assert [(gap.from_ms, gap.to_ms) for gap in new.gaps] == [(1_003_000, 1_003_050)]


async def test_new_ingest_that_waited_for_upstream_tells_nothing_to_who_comes_after_it(new: Rig, clock: Clock) -> None:
    pass_time(new, clock, 10)
    new.go_live()
    pass_time(new, clock, 0.25)
    new.upstream.set_wanted(["T.AAPL"])
    new.ack()
    pass_time(new, clock, 10)
    assert new.gaps == []


async def test_loss_before_a_new_ingests_time_runs_out_is_a_gap_of_its_own(new: Rig, clock: Clock) -> None:
    """Its first clients have their acks by then, and no gateway tells them anything."""
    new.go_live()
    new.upstream.set_wanted(["T.AAPL"])
    new.ack()
    pass_time(new, clock, 1)
    new.upstream.closed("why")
    pass_time(new, clock, 5)
    new.go_live()
    new.ack()
    assert [(gap.from_ms, gap.to_ms, gap.cause) for gap in new.gaps] == [(1_000_000, 1_006_000, "why")]


# What the next ingest may count on.


def pass_time_to(rig: Rig, clock: Clock, at_s: float) -> None:
    pass_time(rig, clock, at_s - clock.now_s)


async def test_upstream_that_is_live_is_whole_up_to_when_a_dead_connection_would_have_been_missed(
    rig: Rig, clock: Clock
) -> None:
    assert rig.upstream.find_whole_ms() == 998_000, "since it is live"
    rig.upstream.get_last_event_us = lambda: int(clock.now_s * 1e6)  # which may not be published yet
    pass_time_to(rig, clock, 3000)
    assert rig.upstream.find_whole_ms() == 2_910_000
    rig.upstream.noticed_within_s = 20
    assert rig.upstream.find_whole_ms() == 2_980_000


async def test_upstream_that_is_lost_is_not_whole_until_its_gap_is_told(rig: Rig, clock: Clock) -> None:
    pass_time_to(rig, clock, 3000)
    rig.upstream.closed("why")
    assert (rig.upstream.find_whole_ms(), rig.upstream.missing_since_ms) == (None, 2_910_000)
    rig.go_live()
    assert (rig.upstream.find_whole_ms(), rig.upstream.missing_since_ms) == (None, 2_910_000)
    pass_time(rig, clock, 1)
    rig.ack()
    assert (rig.upstream.find_whole_ms(), rig.upstream.missing_since_ms) == (3_000_000, None)


async def test_upstream_is_whole_up_to_a_standstill_only_until_its_end_would_have_been_noticed(
    rig: Rig, clock: Clock
) -> None:
    pass_time_to(rig, clock, 2000)
    clock.now_s += 500
    assert rig.upstream.find_whole_ms() == 2_000_000
    pass_time_to(rig, clock, 2590)
    assert rig.upstream.find_whole_ms() == 2_500_000


async def test_second_standstill_does_not_make_the_first_one_forgotten(rig: Rig, clock: Clock) -> None:
    """Which may have cost the connection, and that is not noticed yet."""
    pass_time_to(rig, clock, 2000)
    clock.now_s += 500
    rig.upstream.tick()
    pass_time_to(rig, clock, 2550)
    clock.now_s += 500
    rig.upstream.tick()
    pass_time_to(rig, clock, 3130)
    assert rig.upstream.find_whole_ms() == 2_000_000
    rig.upstream.closed("why")
    assert rig.upstream.missing_since_ms == 2_000_000
