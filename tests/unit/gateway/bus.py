"""A hub with ingest's side of the bus, for tests that say who gets which event."""

import json
from collections.abc import Hashable

from gateway.hub import Hub
from shared.batch import Mark
from shared.names import Names
from tests.unit.gateway.frames import close_batch, read_events

NAMES = Names("stocks")


class Bus:
    """A hub, and the ingest on the other side of the bus."""

    def __init__(self) -> None:
        self.hub = Hub(NAMES)
        self.alls: frozenset[str] = frozenset()
        self.sequence = 0
        self.epoch = 7

    def hold(self, member: Hashable, *channels: str) -> None:
        self.hub.add(member, channels)
        self.hub.set_ready(channels)

    def publish_whole(self, *event_types: str) -> None:
        """From now on these types come as all:EV as well; a mark says so."""
        self.alls = frozenset(event_types)
        self.mark(self.sequence)

    def send(self, channel: str, *numbers: int) -> None:
        """Events of one exact channel."""
        event_type = channel.split(".")[0]
        payload = json.dumps([{"ev": event_type, "n": number} for number in numbers]).encode()
        self.hub.collect(channel.encode(), payload)

    def send_whole(self, event_type: str, *numbers: int) -> None:
        payload = json.dumps([{"ev": event_type, "n": number} for number in numbers]).encode()
        self.hub.collect(NAMES.get_bus_channel(f"{event_type}.*").encode(), payload)

    def trade(self, symbol: str, number: int) -> None:
        """One trade as ingest sends it: exactly, and whole if wanted."""
        self.send(f"T.{symbol}", number)
        if "T" in self.alls:
            self.send_whole("T", number)

    def mark(self, sequence: int | None = None) -> dict[Hashable, list[int]]:
        """Close the batch; what each member got."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        got: dict[Hashable, list[int]] = {}
        for frame, members in close_batch(self.hub, Mark(self.epoch, sequence, 1, 1, self.alls)):
            for member in members:
                assert member not in got, "two frames of one batch"
                got[member] = [event["n"] for event in read_events(frame)]
        return got
