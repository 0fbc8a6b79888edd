"""An outbox beside a transport that tests can stop, and what came out of it."""

import asyncio
import json
from typing import Any

from gateway.groups import encode_frame
from gateway.outbox import Outbox
from tests.unit.gateway.frames import read_events


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and says stop after `room` frames."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.room: int | None = None
        self.outbox: Outbox | None = None

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        if self.room is not None:
            self.room -= 1
            if self.room <= 0 and self.outbox is not None:
                self.outbox.pause()


def make_frame(number: int, events: int = 1) -> bytes:
    return encode_frame([json.dumps({"ev": "T", "n": number}).encode()] * events)


def make_quotes(*numbers: int, symbol: str = "A") -> bytes:
    return encode_frame([json.dumps({"ev": "Q", "sym": symbol, "n": number}).encode() for number in numbers])


class Clock:
    """Unix time that only tests move."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def make_outbox(limit_events: int = 10, clock: Clock | None = None) -> tuple[Outbox, Wire]:
    wire = Wire()
    wire.outbox = Outbox(wire, limit_events, clock or Clock())
    return wire.outbox, wire


def read_all(wire: Wire) -> list[Any]:
    """The numbers of the events written, and the messages of the statuses."""
    events = [event for frame in wire.written for event in read_events(frame)]
    return [event.get("n", event.get("message")) for event in events]
