"""BACKFILL=true: what upstream lost while it was away comes over REST, once, between two statuses."""

import time
from pathlib import Path

from tests.fakes.rest import FakeRest
from tests.processes import until
from tests.proxy import KEY, running_proxy

SOON = {"ingest.backfill.SETTLE_S": 0.3}


def trade(number: int, at_ms: int) -> bytes:
    return b'{"ev":"T","sym":"AAPL","i":"%d","x":4,"p":1.5,"s":100,"t":%d,"q":%d,"z":3}' % (number, at_ms, number)


async def test_what_a_gap_swallowed_arrives_once_between_two_statuses(tmp_path: Path) -> None:
    async with FakeRest(keys=frozenset([KEY])) as rest:
        async with running_proxy(tmp_path, constants=SOON, BACKFILL="true", POLYGON_REST_URL=rest.url) as proxy:
            client = await proxy.join("T.AAPL")

            def make(number: int) -> bytes:
                """A trade that REST knows of, too."""
                now_ms = int(time.time() * 1000)
                rest.add_trade("AAPL", now_ms * 1_000_000, id=str(number), sequence_number=number)
                return trade(number, now_ms)

            sent = [make(number) for number in range(1, 4)]
            for event in sent:
                await proxy.emit(event, client)
            missed = [make(number) for number in range(4, 7)]
            await proxy.fake.drop()
            await proxy.fake.wait_held(["T.AAPL"])
            after = [make(7)]
            await proxy.emit(after[0], client)
            await until(lambda: len(client.events) >= 7, "the missed ones")
            await until(lambda: any("were missing" in status for status in client.statuses), "the last word")
        assert client.events == [*sent, *after, *missed]
        said = [status for status in client.statuses if status.startswith(("gap", "backfill"))]
        assert [status.partition(":")[0] for status in said] == ["gap", "backfill", "backfill", "backfill"]
        assert "follow, late" in said[1] and "end of late events" in said[2]
        assert "3 events" in said[3] and "all that REST has was delivered" in said[3]
        [frame] = [str(frame) for frame in client.frames if "follow, late" in str(frame)]
        order = [frame.index(text) for text in ("follow, late", '"i":"4"', '"i":"6"', "end of late events")]
        assert order == sorted(order)
        assert KEY not in proxy.output


async def test_without_backfill_rest_is_not_asked(tmp_path: Path) -> None:
    async with FakeRest() as rest, running_proxy(tmp_path, constants=SOON, POLYGON_REST_URL=rest.url) as proxy:
        client = await proxy.join("T.AAPL")
        await proxy.emit(trade(1, int(time.time() * 1000)), client)
        await proxy.fake.drop()
        await proxy.fake.wait_held(["T.AAPL"])
        await proxy.emit(trade(2, int(time.time() * 1000)), client)
        await until(lambda: any(status.startswith("gap") for status in client.statuses), "the gap")
        assert rest.requests == []
