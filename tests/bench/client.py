"""One WebSocket client for load: raw RFC 6455 with a checker behind it.

What a frame costs here is taken from the machine that the product is measured on, so this is RFC 6455 by hand on a raw
asyncio.Protocol and as little of it as a server needs: masked frames out, whole text frames in, pings answered.
Anything else (a fragment, a binary frame, a masked one) ends the connection and is reported as a disconnect.
"""

import asyncio
import base64
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final, cast
from urllib.parse import urlsplit

from tests.checker import Checker

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A  # the first byte of a frame that is not fragmented
_MAX_FRAME_BYTES = 1_000_000  # what the strictest official client takes (PROTOCOL d.3)
_SAMPLE_READS = 16  # one read of so many gives a sample of the latency
_MAX_LATENCY_MS = 60_000  # longer ones count as this


class Client(asyncio.Protocol):
    """Connects, authenticates, subscribes to all of `channels`; every frame from then on is judged by `checker`.

    `acked` is done when each channel was acked; with an exception if the connection ended before.  `closed` is done,
    with the cause as a text, when the connection is over.  `latency_ms` counts samples: milliseconds from the last
    event's `t` to now, our own delay included.
    """

    def __init__(
        self, url: str, key: str, channels: Iterable[str], *, latency_ms: Counter[int], expect_from: int | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.acked: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.authenticated_at = 0.0  # time.perf_counter
        self.checker = Checker(channels, expect_from=expect_from, on_status=self._on_status)
        self._url = urlsplit(url)
        self._key = key
        self._unacked = set(channels)
        self._latency_ms = latency_ms
        self._nonce = base64.b64encode(os.urandom(16))
        self._upgraded = False
        self._rest = b""  # of a frame that has not come whole; at most _MAX_FRAME_BYTES and one read
        self._reads = 0
        self._cause = ""  # why we close, or the server's close code

    async def connect(self) -> None:
        """Opens the connection; the rest follows by itself."""
        await asyncio.get_running_loop().create_connection(lambda: self, self._url.hostname or "", self._url.port or 80)

    def subscribe(self, channels: Iterable[str]) -> asyncio.Future[None]:
        """Holds these too; the future (then `acked` as well) is done when all that was asked for is acked."""
        self.checker.hold(channels)
        self._unacked.update(channels)
        if self.acked.done():
            self.acked = asyncio.get_running_loop().create_future()
        self._send_action("subscribe", ",".join(channels))
        return self.acked

    def close(self, code: int = 1000) -> None:
        """Says goodbye and closes; harmless if closed."""
        self._send(_CLOSE, code.to_bytes(2, "big"))
        self._cause = self._cause or "closed by us"
        self._transport.close()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        path, host = (self._url.path or "/") + (self._url.query and f"?{self._url.query}"), self._url.netloc
        fixed = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
        nonce = f"Sec-WebSocket-Key: {self._nonce.decode()}"
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fixed}\r\n{nonce}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Takes whole frames off the stream.  The hot path."""
        if self._rest:
            data = self._rest + data
        have = len(data)
        position = 0 if self._upgraded else self._take_upgrade(data)
        while self._upgraded and (start := position + 2) <= have:
            size = data[position + 1]
            if size > 125:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[position + 2 : start], "big")
            if (end := start + size) > have:
                break
            if data[position] == _TEXT:
                self.checker.feed(data[start:end])
            else:
                self._on_other(data[position], data[start:end])
            position = end
        self._rest = data[position:]
        self._reads += 1
        if self._reads % _SAMPLE_READS == 0:
            self._sample_latency(data, position)
        elif len(self._rest) > _MAX_FRAME_BYTES:
            self._fail("frame too long, or masked")

    def connection_lost(self, exc: Exception | None) -> None:
        cause = self._cause or (f"lost: {exc}" if exc else "lost without a close frame")
        if not self.closed.done():
            self.closed.set_result(cause)
        if not self.acked.done():
            self.acked.set_exception(ConnectionError(f"{cause}; acks missing: {len(self._unacked)}"))
            self.acked.exception()  # whether anybody waits for it is not our business

    # -- what came

    def _take_upgrade(self, data: bytes) -> int:
        """Where the frames begin; 0 while the answer to the upgrade is not complete."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return 0
        accept = base64.b64encode(hashlib.sha1(self._nonce + _GUID, usedforsecurity=False).digest())
        if not data.startswith(b"HTTP/1.1 101 ") or accept not in data[:end]:
            self._fail(data.partition(b"\r\n")[0].decode("latin-1"))
            return 0
        self._upgraded = True
        return end

    def _on_other(self, opcode: int, payload: bytes) -> None:
        match opcode:
            case 0x89:
                self._send(_PONG, payload)
            case 0x8A:
                return
            case 0x88:
                self._cause = self._cause or f"close {int.from_bytes(payload[:2], 'big') or 1005}"
                self.close(1000)
            case _:
                self._fail(f"unexpected frame 0x{opcode:02x}")

    def _on_status(self, kind: str, message: str) -> None:
        match kind:
            case "connected":
                self._send_action("auth", self._key)
            case "auth_success" if not self.authenticated_at:
                self.authenticated_at = time.perf_counter()
                self._send_action("subscribe", ",".join(self._unacked))
            case "success":
                self._unacked.discard(message.removeprefix("subscribed to: "))
                if not self._unacked and not self.acked.done():
                    self.acked.set_result(None)
            case "auth_failed":
                self._fail(f"auth_failed: {message}")

    def _sample_latency(self, data: bytes, end: int) -> None:
        at = data.rfind(b'"t":', 0, end) + 4
        if at >= 4 and (digits := data[at : at + 13]).isdigit():
            late_ms = int(time.time() * 1000) - int(digits)
            self._latency_ms[min(max(late_ms, 0), _MAX_LATENCY_MS)] += 1

    # -- what goes

    def _send_action(self, action: str, params: str) -> None:
        self._send(_TEXT, json.dumps({"action": action, "params": params}).encode())

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._transport.is_closing():
            return
        mask, size = os.urandom(4), len(payload)
        if size < 126:
            head = bytes((opcode, 0x80 | size))
        elif size < 65536:
            head = bytes((opcode, 0xFE)) + size.to_bytes(2, "big")
        else:
            head = bytes((opcode, 0xFF)) + size.to_bytes(8, "big")
        key = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
        self._transport.write(head + mask + masked.to_bytes(size, "big"))

    def _fail(self, cause: str) -> None:
        self._cause = self._cause or cause
        self._transport.abort()
