"""fake Polygon -> ingest -> redis-server -> gateway -> clients, real processes: what arrives, where, and how often."""

import json
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from shared.channels import EVENT_TYPES
from tests.fakes.session import find_channel
from tests.processes import until
from tests.proxy import running_proxy

FRAMES = Path(__file__).parents[1] / "data" / "frames.jsonl"
LAST = b'{"ev":"T","sym":"ZZLAST","p":1}'  # whoever has it has all that was sent before
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_recording() -> list[tuple[str, list[tuple[str, bytes]]]]:
    """Every data frame of the recording, of all clusters, with each event's channel and bytes."""
    rows = [json.loads(line) for line in FRAMES.read_text().splitlines()]
    frames = [row["frame"] for row in rows if row["kind"] == "data"]
    return [
        (frame, [(find_channel(bytes(raw)) or "", bytes(raw).strip()) for raw in _split(frame)]) for frame in frames
    ]


def trade(symbol: str, number: int) -> bytes:
    return b'{"ev":"T","sym":"%b","i":"%d","x":4,"p":1.50,"s":100,"t":1700000000000,"q":%d,"z":3}' % (
        symbol.encode(),
        number,
        number,
    )


class BusReader:
    """`redis-cli SUBSCRIBE`: every event's bytes on some channels."""

    def __init__(self, redis: "Redis") -> None:
        self._pubsub = redis.pubsub(ignore_subscribe_messages=True)
        self.events: dict[str, list[bytes]] = {}

    async def subscribe(self, *channels: str) -> None:
        await self._pubsub.subscribe(*channels)

    async def read_until(self, channel: str) -> None:
        """Read on until that channel brings something."""

        async def has_it() -> bool:
            message = await self._pubsub.get_message(timeout=0.1)
            while message is not None:
                events = [bytes(raw) for raw in _split(message["data"])]
                self.events.setdefault(message["channel"].decode(), []).extend(events)
                message = await self._pubsub.get_message(timeout=0)
            return channel in self.events

        await until(has_it, f"a message on {channel}")

    async def close(self) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]


async def test_every_recorded_event_arrives_byte_for_byte_at_whoever_holds_its_channel_and_at_nobody_else(
    tmp_path: Path,
) -> None:
    recording = read_recording()
    sent: dict[str, list[bytes]] = {}
    for _, events in recording:
        for channel, event in events:
            assert channel
            sent.setdefault(channel, []).append(event)
    offered = [channel for channel in sent if channel.partition(".")[0] in EVENT_TYPES["stocks"]]
    assert (
        len(recording) > 40 and len(offered) > 20 and {c.partition(".")[0] for c in offered} >= {"LULD", "NOI", "FMV"}
    )
    async with running_proxy(tmp_path) as proxy:
        clients = {channel: await proxy.join(channel, "T.ZZLAST") for channel in offered}
        bystander = await proxy.join("T.NOBODY", "T.ZZLAST")
        bus = BusReader(proxy.redis.client)
        await bus.subscribe("T.ZZLAST", *sent)
        await proxy.fake.wait_held([*offered, "T.ZZLAST"])
        for frame, _ in recording:
            await proxy.fake.send_raw(frame)
        await proxy.emit(LAST, *clients.values(), bystander)
        for channel, client in clients.items():
            assert client.events == [*sent[channel], LAST]
        assert bystander.events == [LAST]
        await bus.read_until("T.ZZLAST")
        # There also those of event types that the stocks feed does not know: clients cannot ask for them yet.
        assert bus.events.keys() == {*sent, "T.ZZLAST"}
        for channel in sent:
            assert bus.events[channel] == sent[channel]
        await bus.close()
        assert all(isinstance(frame, str) and frame.startswith("[") for c in clients.values() for frame in c.frames)


async def test_numbers_escapes_white_space_and_key_order_stay_as_written(tmp_path: Path) -> None:
    events = [
        b'{"ev":"T","sym":"AAPL","p":4.522e-05,"s":1.0,"t":1764086430905642800,"v":"4332125.038360","n":-0.0E+10}',
        b'{ "p" : 1e5 ,\t"sym":"AAPL", "nested":{"ev":"Q","sym":"MSFT","a":[{},{"x":[]}]},"ev":"T" }',
        b'{"ev":"T","sym":"AAPL","note":"},{ \\"ev\\":\\"Q\\" \\u0041\\\\ }]"}',
        '{"ev":"T","sym":"AAPL","name":"Société \\ud83d\\ude80 🚀"}'.encode(),
        b'{"ev":"\\u0054","sym":"AA\\u0050L","p":2}',
        b'{"sym":"AAPL","big":123456789012345678901234567890,"ev":"T","ev2":null}',
    ]
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.AAPL")
        for event in events:
            await proxy.fake.send_raw(f"[{event.decode()}]")
        await proxy.fake.send_raw((b"[ " + b" ,\n ".join(events) + b"\n]").decode())
        await proxy.emit(trade("AAPL", 1), client)
        assert client.events == [*events, *events, trade("AAPL", 1)]


async def test_two_events_in_one_frame_go_to_their_own_holders_in_order(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        trades, quotes, both = [await proxy.join(*c) for c in (["T.AAPL"], ["Q.AAPL"], ["T.AAPL", "Q.AAPL"])]
        quote = b'{"ev":"Q","sym":"AAPL","bp":1.10,"ap":1.20}'
        await proxy.fake.wait_held(["T.AAPL", "Q.AAPL"])
        assert await proxy.fake.emit(trade("AAPL", 1), quote, trade("AAPL", 2)) == 1
        for client in (trades, both):
            await client.until_event(trade("AAPL", 2))
        await quotes.until_event(quote)
        assert trades.events == [trade("AAPL", 1), trade("AAPL", 2)]
        assert quotes.events == [quote]
        assert sorted(both.events) == sorted([trade("AAPL", 1), quote, trade("AAPL", 2)])


async def test_refcount_follows_two_clients_on_two_gateways_and_upstream_is_asked_once(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        assert await proxy.redis.get_refcount() == {}
        first = await proxy.join("T.AAPL", gateway=0)
        assert await proxy.redis.get_refcount() == {"T.AAPL": 1}
        second = await proxy.join("T.AAPL", gateway=1)
        third = await proxy.join("T.AAPL", gateway=1)
        assert await proxy.redis.get_refcount() == {"T.AAPL": 2}
        await proxy.emit(trade("AAPL", 1), first, second, third)
        await first.unsubscribe("T.AAPL")
        await proxy.until_refcount({"T.AAPL": 1})
        await second.unsubscribe("T.AAPL")
        await proxy.emit(trade("AAPL", 2), third)
        assert await proxy.redis.get_refcount() == {"T.AAPL": 1}
        assert second.events == first.events == [trade("AAPL", 1)]
        third.abort()
        await proxy.until_refcount({})
        assert proxy.find_subscribes("T.AAPL") == 1
        # It lingers upstream for 30 s: see the unit test of the reconcile.
        with pytest.raises(TimeoutError):
            await proxy.fake.wait_for(lambda: proxy.find_subscribes("T.AAPL", "unsubscribe") > 0, 2.0)
        assert proxy.fake.held() == {"T.AAPL"}
        await proxy.join("T.AAPL")
        assert proxy.find_subscribes("T.AAPL") == 1


async def test_unwanted_channel_is_given_up_upstream_after_the_linger_and_taken_again_when_wanted(
    tmp_path: Path,
) -> None:
    async with running_proxy(tmp_path, constants={"ingest.reconcile.LINGER_S": 0.5}) as proxy:
        client = await proxy.join("T.AAPL", "Q.AAPL")
        await client.unsubscribe("T.AAPL")
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"Q.AAPL"})
        await client.subscribe("T.AAPL")
        await proxy.emit(trade("AAPL", 1), client)
        assert proxy.find_subscribes("T.AAPL") == 2
        assert proxy.find_subscribes("T.AAPL", "unsubscribe") == 1
        assert proxy.find_subscribes("Q.AAPL") == 1


async def test_killed_gateway_is_counted_no_more_within_10_s(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        await proxy.join("T.AAPL", "T.MSFT", gateway=0)
        survivor = await proxy.join("T.AAPL", gateway=1)
        assert await proxy.redis.get_refcount() == {"T.AAPL": 2, "T.MSFT": 1}
        proxy.gateways[0].process.child.kill()
        await proxy.until_refcount({"T.AAPL": 1}, within_s=10.0)
        await proxy.emit(trade("AAPL", 1), survivor)


@pytest.mark.parametrize(
    "channels", [("T.*",), ("*",), ("T.*", "T.AAPL"), ("T.AAPL", "T.*"), ("*", "T.*", "T.AAPL")], ids=",".join
)
async def test_wildcards_bring_each_event_once(channels: tuple[str, ...], tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        exact = await proxy.join("T.AAPL")
        client = await proxy.join()
        for channel in channels:  # one after the other, so that upstream has to change over
            await client.subscribe(channel)
        events = [trade(symbol, number) for number in range(50) for symbol in ("AAPL", "BRK.A", "ZVZZT")]
        for start in range(0, len(events), 10):
            assert await proxy.fake.emit(*events[start : start + 10]) == 1
        await client.until_event(events[-1])
        await exact.until_event(trade("AAPL", 49))
        assert client.events.count(events[-1]) == 1
        assert sorted(client.events) == sorted(events)  # each once; of one symbol in order:
        for symbol in (b"AAPL", b"BRK.A", b"ZVZZT"):
            own = [event for event in events if symbol in event]
            assert [event for event in client.events if symbol in event] == own
        assert exact.events == [trade("AAPL", number) for number in range(50)]


async def test_changing_over_between_a_wildcard_and_its_channel_under_load_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.AAPL")
        number = 0

        async def send_some() -> None:
            nonlocal number
            for _ in range(20):
                number += 1
                assert await proxy.fake.emit(trade("AAPL", number)) == 1

        for _ in range(3):
            await send_some()
            since = len(client.statuses)
            await client.say("subscribe", "T.*")
            await send_some()
            await client.until_event(trade("AAPL", number))
            await client.until_status("success: subscribed to: T.*", since)
            await send_some()
            await client.say("unsubscribe", "T.*")
            await send_some()
            await client.until_event(trade("AAPL", number))
        assert client.events == [trade("AAPL", one + 1) for one in range(number)]


async def test_event_that_upstream_sends_twice_while_a_changeover_holds_both_arrives_once(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        exact = await proxy.join("T.AAPL")
        proxy.fake.script.wildcard_twice = True  # whether the real one does is unknown (PROTOCOL c.1)
        proxy.fake.script.ack_delay_s = 0.3
        whole = await proxy.join()
        await whole.say("subscribe", "T.*")
        number, doubled = 0, 0

        async def has_changed_over() -> bool:
            nonlocal number, doubled
            number += 1
            doubled += {"T.AAPL", "T.*"} <= proxy.fake.held()
            await proxy.fake.emit(trade("AAPL", number))
            return proxy.fake.held() == {"T.*"}

        await until(has_changed_over, "upstream holds the wildcard alone")
        await proxy.emit(trade("AAPL", 0), exact, whole)
        assert doubled > 3
        assert exact.events == [trade("AAPL", one) for one in (*range(1, number + 1), 0)]
        assert whole.events == exact.events[-len(whole.events) :]


async def test_unsubscribed_wildcard_leaves_the_exact_channel_fed(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, constants={"ingest.reconcile.LINGER_S": 0.5}) as proxy:
        client = await proxy.join("T.AAPL", "T.*")
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.*"})
        await client.unsubscribe("T.*")
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.AAPL"})
        await proxy.emit(trade("AAPL", 1), client)
        assert client.events == [trade("AAPL", 1)]
