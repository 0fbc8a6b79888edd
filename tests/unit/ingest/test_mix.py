"""Two upstreams that look like one: who is asked for what, and what counts as held, refused and missing."""

import asyncio
import time

from ingest.mix import Mix, Sieve
from ingest.upstream import Upstream
from shared.gap import Gap
from shared.protocol import AUTH_SUCCESS, CONNECTED, Status, encode_statuses, error, parse_action, subscribed
from shared.split import split_frame


class Side:
    """One upstream that a test plays; it acks what it is asked for unless told not to."""

    def __init__(self) -> None:
        self.upstream = Upstream("stocks", "key")
        self.gaps: list[Gap] = []
        self.upstream.on_gap = self.gaps.append
        self.held: set[str] = set()
        self.asked: list[str] = []  # "action channel"
        self.refuses: set[str] = set()

    def open(self) -> None:
        self.held.clear()
        self.upstream.opened(self._receive)
        self._say(CONNECTED)
        self._say(AUTH_SUCCESS)

    def _say(self, status: Status) -> None:
        self.upstream.on_status(encode_statuses([status])[0][1:-1])

    def _receive(self, text: str) -> None:
        action = parse_action(text)
        if action.action == "auth":
            return
        for channel in action.params.split(","):
            self.asked.append(f"{action.action} {channel}")
            if action.action == "unsubscribe":
                self.held.discard(channel)
            elif channel in self.refuses:
                asyncio.get_running_loop().call_soon(self._say, error("not authorized"))
            else:
                self.held.add(channel)
                asyncio.get_running_loop().call_soon(self._say, subscribed(channel))


class Scene:
    def __init__(self, *symbols: str) -> None:
        self.live, self.test = Side(), Side()
        self.sieve = Sieve(symbols)
        self.mix = Mix(self.live.upstream, self.test.upstream, self.sieve)
        self.dropped: list[str] = []
        self.mix.on_drop = self._on_drop
        self.live.open()
        self.test.open()

    def _on_drop(self, channels: list[str]) -> None:
        """Redis clears all."""
        self.dropped += channels
        self.mix.drop(channels)

    async def want(self, *channels: str) -> None:
        self.mix.set_wanted(channels)
        await settle()


async def settle() -> None:
    """What is answered later is answered."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_each_side_is_asked_for_its_own_and_both_for_wildcards() -> None:
    scene = Scene("AAPL", "BRK.A")
    await scene.want("T.AAPL", "T.BRK.A", "T.MSFT", "Q.*")
    assert scene.live.held == {"T.MSFT", "Q.*"}
    assert scene.test.held == {"T.AAPL", "T.BRK.A", "Q.*"}
    assert scene.mix.held == {"T.AAPL", "T.BRK.A", "T.MSFT", "Q.*"}


async def test_a_star_is_asked_of_both() -> None:
    scene = Scene("AAPL")
    await scene.want("*")
    assert scene.live.held == scene.test.held == scene.mix.held
    assert "T.*" in scene.mix.held


async def test_edges_of_demand_go_where_the_whole_would() -> None:
    scene = Scene("AAPL")
    scene.mix.update_wanted(["T.AAPL", "T.MSFT", "Q.*"], [])
    await settle()
    assert (scene.live.held, scene.test.held) == ({"T.MSFT", "Q.*"}, {"T.AAPL", "Q.*"})
    scene.mix.update_wanted([], ["T.AAPL", "Q.*"])
    assert scene.mix.wanted == {"T.MSFT"}
    assert scene.live.upstream.wanted == {"T.MSFT"} and scene.test.upstream.wanted == frozenset()


async def test_while_polygon_is_down_simulated_channels_are_held_and_others_are_not() -> None:
    scene = Scene("AAPL", "TSLA")
    await scene.want("T.AAPL", "T.MSFT", "Q.*", "Q.AAPL", "Q.MSFT")
    scene.live.upstream.closed("gone")
    assert scene.mix.held == {"T.AAPL", "Q.AAPL"}, "Q.* is held by one side only"
    await scene.want("T.AAPL", "T.MSFT", "Q.*", "T.TSLA", "Q.TSLA")
    assert scene.mix.held == {"T.AAPL", "T.TSLA", "Q.TSLA"}
    assert scene.mix.state.startswith("down") and not scene.mix.is_live


async def test_a_gap_of_polygons_names_no_simulated_symbol() -> None:
    scene = Scene("AAPL")
    await scene.want("T.AAPL", "T.MSFT")
    scene.live.upstream.closed("gone")
    scene.live.open()
    await settle()
    assert [gap.channels for gap in scene.live.gaps] == [["T.MSFT"]]
    assert scene.test.gaps == []


async def test_a_new_mix_that_waits_for_polygon_tells_a_gap_of_its_channels_only() -> None:
    live, test = Side(), Side()
    mix = Mix(live.upstream, test.upstream, Sieve(["AAPL"]))
    mix.set_wanted(["T.AAPL", "T.MSFT"])
    test.open()
    await settle()
    mix.expect_gap(int(time.time() * 1000) - 1, "a new ingest had to wait for upstream")
    live.upstream.tick()
    test.upstream.tick()
    live.open()
    await settle()
    assert [gap.channels for gap in live.gaps] == [["T.MSFT"]]
    assert test.gaps == []


async def test_what_polygon_refuses_is_refused_but_no_simulated_symbol() -> None:
    scene = Scene("AAPL")
    scene.live.refuses = {"NOI.*", "T.MSFT"}
    await scene.want("NOI.*", "T.MSFT", "T.AAPL")
    assert set(scene.mix.refused) == {"NOI.*", "T.MSFT"}
    assert scene.mix.held == {"T.AAPL"}


async def test_a_symbol_that_moves_is_given_up_at_once_by_one_side_and_asked_of_the_other() -> None:
    scene = Scene("TSLA")
    await scene.want("T.AAPL", "T.TSLA", "Q.AAPL")
    scene.mix.set_symbols(["AAPL"])
    await settle()
    assert (scene.live.held, scene.test.held) == ({"T.TSLA"}, {"T.AAPL", "Q.AAPL"})
    assert scene.mix.held == {"T.AAPL", "Q.AAPL", "T.TSLA"}
    assert scene.dropped == [], "Redis is not asked: somebody wants them, from the other side"
    scene.mix.set_symbols(["AAPL"])
    scene.mix.set_symbols(["TSLA"])
    await settle()
    assert (scene.live.held, scene.test.held) == ({"T.AAPL", "Q.AAPL"}, {"T.TSLA"})


async def test_a_symbol_that_moves_while_polygon_is_down_is_asked_for_when_it_is_back() -> None:
    scene = Scene("AAPL")
    await scene.want("T.AAPL", "T.MSFT")
    scene.live.upstream.closed("gone")
    scene.mix.set_symbols(["MSFT"])
    await settle()
    assert scene.mix.held == {"T.MSFT"}
    scene.live.open()
    await settle()
    assert scene.live.held == {"T.AAPL"} and scene.mix.held == {"T.AAPL", "T.MSFT"}


async def test_what_nobody_wants_is_cleared_before_either_side_gives_it_up() -> None:
    scene = Scene("AAPL")
    await scene.want("T.AAPL", "T.MSFT", "Q.*")
    for upstream in (scene.live.upstream, scene.test.upstream):
        upstream.reconcile.set_wanted([], time.monotonic() - 60)
        upstream.plan()
    assert sorted(scene.dropped) == ["Q.*", "Q.*", "T.AAPL", "T.MSFT"]
    assert scene.live.held == scene.test.held == scene.mix.held - {"T.AAPL", "T.MSFT"} == set()


def test_the_sieve_lets_pass_what_comes_from_the_right_side_and_counts_the_rest() -> None:
    sieve = Sieve(["AAPL"])
    status = b'{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}'
    mine, other = b'{"ev":"LULD","h":1,"T":"AAPL"}', b'{"ev":"T","sym":"MSFT"}'
    split = split_frame(b"[%b,%b,%b]" % (status, mine, other))
    assert sieve.pass_live(split).bodies == [status[1:-1], other[1:-1]]
    assert sieve.dropped == 1
    assert sieve.pass_test(split).bodies == [mine[1:-1]]
    assert sieve.dropped == 1, "of test data nothing is missing"
