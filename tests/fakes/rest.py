"""Polygon's REST side: `FakeRest` answers for the trades, quotes and bars that a test tells it of.

Told by `add_trade`, `add_quote`, `add_bar` with the names that REST uses, or by `add` with a result's exact bytes.  The
knobs are attributes and may be turned at any time.
"""

import asyncio
import json
from collections import defaultdict, deque
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

REQUESTS_MAX = 100_000  # `FakeRest.requests` keeps the first so many


class Asked(NamedTuple):
    """One request as received."""

    path: str
    query: dict[str, str]
    authorization: str


class FakeRest:
    """The endpoints of one host, on a free port of localhost."""

    def __init__(self, *, keys: frozenset[str] | None = None, page_size: int = 50_000) -> None:
        """`keys` None: any key is good.  A page has at most `page_size` results, however many were asked for."""
        self.keys = keys
        self.page_size = page_size
        self.delay_s = 0.0  # before each answer
        self.failures: deque[int] = deque()  # the next answers' HTTP statuses
        self.retry_after = ""  # the header of such an answer
        self.not_entitled: frozenset[str] = frozenset()  # kinds that answer 403: trades, quotes, second, minute
        self.next_host = ""  # the host that next_url leads to, such as http://elsewhere
        self.padding = b""  # white space after each answer
        self.requests: list[Asked] = []
        self.most_at_once = 0
        self.url = ""
        self._under_way = 0
        self._results: defaultdict[tuple[str, str], list[tuple[int, bytes]]] = defaultdict(list)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/v3/{kind:trades|quotes}/{symbol}", self._serve_ticks),
                web.get("/v2/aggs/ticker/{symbol}/range/1/{kind:second|minute}/{from}/{to}", self._serve_bars),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    # -- what it knows

    def add(self, kind: str, symbol: str, at: int, result: bytes) -> None:
        """A result's JSON; `kind` is trades or quotes (`at` in ns), second or minute (`at` in ms, a bar's start)."""
        self._results[kind, symbol].append((at, result))

    def add_trade(self, symbol: str, sip_timestamp: int, **fields: Any) -> None:
        result = {"sip_timestamp": sip_timestamp, "exchange": 4, "price": 1.5, "size": 100, "tape": 3} | fields
        self.add("trades", symbol, sip_timestamp, json.dumps(result).encode())

    def add_quote(self, symbol: str, sip_timestamp: int, **fields: Any) -> None:
        result = {"sip_timestamp": sip_timestamp, "bid_price": 1.5, "ask_price": 1.6, "tape": 3} | fields
        self.add("quotes", symbol, sip_timestamp, json.dumps(result).encode())

    def add_bar(self, kind: str, symbol: str, start_ms: int, **fields: Any) -> None:
        result = {"v": 100, "vw": 1.5, "o": 1.5, "c": 1.5, "h": 1.5, "l": 1.5, "t": start_ms, "n": 1} | fields
        self.add(kind, symbol, start_ms, json.dumps(result).encode())

    # -- what it answers

    async def _serve_ticks(self, request: web.Request) -> web.Response:
        query = request.query
        # A cursor's request has no other parameter, so the cursor holds them all.
        words = query["cursor"].split("-") if "cursor" in query else []
        begin, end, limit, skip = (
            map(int, words)
            if words
            else (int(query["timestamp.gte"]), int(query["timestamp.lt"]) - 1, int(query.get("limit", 1000)), 0)
        )
        return await self._answer(request, begin, end, limit, skip)

    async def _serve_bars(self, request: web.Request) -> web.Response:
        begin, end = int(request.match_info["from"]), int(request.match_info["to"])
        skip = int(request.query.get("cursor", "0-0-0-0").split("-")[3])
        return await self._answer(request, begin, end, int(request.query.get("limit", 5000)), skip)

    async def _answer(self, request: web.Request, begin: int, end: int, limit: int, skip: int) -> web.Response:
        if len(self.requests) < REQUESTS_MAX:
            authorization = request.headers.get("Authorization", "")
            self.requests.append(Asked(request.path_qs.partition("?")[0], dict(request.query), authorization))
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self._under_way -= 1
        kind, symbol = request.match_info["kind"], request.match_info["symbol"]
        if refusal := self._find_refusal(request, kind):
            return refusal
        known = sorted(one for one in self._results[kind, symbol] if begin <= one[0] <= end)
        size = min(limit, self.page_size)
        page = [result for _, result in known[skip : skip + size]]
        body = b'{"status":"OK","request_id":"a47d","results":[%b]' % b",".join(page)
        if skip + size < len(known):
            cursor = f"cursor={begin}-{end}-{limit}-{skip + size}"
            body += b',"next_url":"%b"' % f"{self.next_host or self.url}{request.path}?{cursor}".encode()
        return web.Response(body=body + b"}" + self.padding, content_type="application/json")

    def _find_refusal(self, request: web.Request, kind: str) -> web.Response | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or (self.keys is not None and key not in self.keys):
            return web.json_response({"status": "ERROR", "error": "Unknown API Key"}, status=401)
        if kind in self.not_entitled:
            message = "You are not entitled to this data. Please upgrade your plan at https://polygon.io/pricing"
            return web.json_response({"status": "NOT_AUTHORIZED", "message": message}, status=403)
        if self.failures:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.json_response({"status": "ERROR"}, status=self.failures.popleft(), headers=headers)
        return None
