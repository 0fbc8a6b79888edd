"""What a monitor asks for over HTTP: `/health` (JSON; 200 or 503), `/metrics` (Prometheus text), `/slow` (JSON).

All are answered from this process and from the gateways' leases in Redis, so one address tells of the whole feed.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.indicator import Indicator, decode_indicator
from shared.names import Names

_log = logging.getLogger(__name__)
_TEXTS: Final = (b"latency_us", b"slowest")  # what is no number in a lease
_STALE_MARK_S: Final = 5.0  # marks come every second even when idle: older means that the bus is cut somewhere


STANDBY: Final[dict[str, Any]] = {"state": "standing by", "live": 0}  # then the holder of the slot is asked about


class Ops:
    """The HTTP side of one ingest."""

    def __init__(self, redis: "Redis", names: Names, get_upstream: Callable[[], dict[str, Any]]) -> None:
        self._redis = redis
        self._names = names
        self._get_upstream = get_upstream
        self._runner: web.AppRunner | None = None

    async def open(self, host: str, port: int) -> None:
        """Serve; a port that cannot be had is logged, for the feed matters more than its monitor."""
        app = web.Application()
        pages = {"/health": self._on_health, "/metrics": self._on_metrics, "/slow": self._on_slow}
        app.add_routes([web.get(path, page) for path, page in pages.items()])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as exc:
            _log.warning(
                "no /health, /metrics and /slow: port %d cannot be had (%s); METRICS_PORT is another", port, exc
            )
            return
        _log.info("health and metrics: http://%s:%d/health, /metrics and /slow", host, port)

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get_holder(self) -> dict[str, Any]:
        """While we stand by: who has the slot, and what it says of upstream."""
        holder: Any = await self._redis.get(self._names.ingest)
        fields: Any = await self._redis.hmget(self._names.upstream, "state", "test_data")
        state, test_data = fields
        if holder is None or state is None:
            return {"state": "nobody has the upstream slot"}
        said = {"state": f"{state.decode()} (held by {holder.decode()})", "live": int(state == b"live")}
        return said | {"test_data": decode_indicator(test_data)}

    async def _get_leases(self) -> dict[str, dict[bytes, bytes]]:
        """What stands in each living gateway's lease."""
        ids: Any = await self._redis.smembers(self._names.gateways)
        leases: dict[str, dict[bytes, bytes]] = {}
        for ident in sorted(member.decode() for member in ids):
            fields: Any = await self._redis.hgetall(self._names.get_lease(ident))
            if fields:
                leases[ident] = fields
        return leases

    async def _get_gateways(self) -> dict[str, dict[str, float]]:
        """The numbers in each living gateway's lease."""
        return {
            ident: {name.decode(): float(value) for name, value in fields.items() if name not in _TEXTS}
            for ident, fields in (await self._get_leases()).items()
        }

    async def _on_health(self, _request: web.Request) -> web.Response:
        problems = []
        upstream = self._get_upstream()
        try:
            if upstream is STANDBY:
                upstream = upstream | await self._get_holder()
            gateways = await self._get_gateways()
        except (RedisError, OSError) as exc:
            gateways = {}
            problems.append(f"Redis does not answer ({exc})")
        if not upstream["live"]:
            problems.append(f"upstream is not live ({upstream['state']})")
        if not gateways:
            problems.append("no gateway is running")
        problems += filter(None, (_find_problem(ident, numbers) for ident, numbers in gateways.items()))
        test_data: Indicator | None = upstream.get("test_data")
        body = {
            "status": "failing" if problems else "ok",
            "problems": problems,
            "test_data": None if test_data is None else msgspec.to_builtins(test_data),
            "upstream": {name: value for name, value in upstream.items() if name != "test_data"},
            "gateways": gateways,
        }
        return web.json_response(body, status=503 if problems else 200)

    async def _on_slow(self, _request: web.Request) -> web.Response:
        """The slowest clients of all gateways, as of their last renewal, the slowest first; 503 without Redis."""
        try:
            leases = await self._get_leases()
        except (RedisError, OSError) as exc:
            return web.json_response({"problem": f"Redis does not answer ({exc})"}, status=503)
        slowest = [
            {"gateway": ident, **slow}
            for ident, fields in leases.items()
            for slow in json.loads(fields.get(b"slowest", b"[]"))
        ]
        return web.json_response(sorted(slowest, key=lambda slow: slow["lag_ms"], reverse=True))

    async def _on_metrics(self, _request: web.Request) -> web.Response:
        try:
            gateways = await self._get_gateways()
        except (RedisError, OSError):
            gateways = {}
        registry = CollectorRegistry()
        registry.register(_Snapshot(self._get_upstream(), gateways))
        return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")


def _find_problem(ident: str, numbers: dict[str, float]) -> str:
    """What is wrong with a gateway, by the numbers in its lease; empty if nothing is."""
    if "last_mark" not in numbers:
        return f"gateway {ident} has just come"
    silent_s = time.time() - numbers["last_mark"]
    return f"gateway {ident} has not seen a mark for {silent_s:.0f} s" if silent_s > _STALE_MARK_S else ""


def _make_test_data_metric(indicator: Indicator | None) -> Metric:
    """1 while test data is played, under its mode and scenario; 0 while all is live."""
    family = GaugeMetricFamily("polygon_proxy_ingest_test_data", "ingest: test_data", labels=["mode", "scenario"])
    labels = ["live", ""] if indicator is None else [indicator.mode, indicator.scenario]
    family.add_metric(labels, float(indicator is not None))
    return family


class _Snapshot:
    """One reading of all numbers, in the shape that prometheus_client collects."""

    def __init__(self, upstream: dict[str, Any], gateways: dict[str, dict[str, float]]) -> None:
        self._upstream = upstream
        self._gateways = gateways

    def collect(self) -> Iterable[Metric]:
        """All metrics; a gauge each, since a restart sets them back."""
        for name, value in self._upstream.items():
            if name == "test_data":
                yield _make_test_data_metric(value)
            elif name != "state":
                yield GaugeMetricFamily(f"polygon_proxy_ingest_{name}", f"ingest: {name}", value=float(value))
        for name in sorted({name for numbers in self._gateways.values() for name in numbers}):
            family = GaugeMetricFamily(f"polygon_proxy_gateway_{name}", f"gateway: {name}", labels=["gateway"])
            for ident, numbers in self._gateways.items():
                if name in numbers:
                    family.add_metric([ident], numbers[name])
            yield family
