"""Redis comes back with what it had a moment ago, as one that saves now and then does after a crash."""

from pathlib import Path

from shared.demand import HELD_S
from tests.proxy import running_proxy

TRADE = b'{"ev":"T","sym":"MSFT","q":%d}'
RECOVERED_S = 5.0  # DESIGN 6: after Redis answers again


async def test_what_was_asked_for_since_redis_was_saved_is_counted_again(tmp_path: Path) -> None:
    """Its lease is there, and lives, so that the gateway is not told that anything was lost."""
    async with running_proxy(tmp_path, constants={"shared.demand.LEASE_S": HELD_S}) as proxy:
        first = await proxy.join("T.AAPL", "Q.AAPL")
        await proxy.redis.client.save()
        client = await proxy.join("T.MSFT")
        await proxy.emit(TRADE % 1, client)
        first.abort()
        await proxy.until_refcount({"T.MSFT": 1})
        proxy.redis.server.kill()
        await proxy.redis.start_saved()
        await proxy.until_refcount({"T.MSFT": 1}, within_s=RECOVERED_S)
        assert "lease lost" not in proxy.gateways[0].process.output
        await proxy.emit(TRADE % 2, client)
        assert client.is_open
