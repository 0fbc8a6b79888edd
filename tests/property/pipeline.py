"""From upstream's wire to clients without a socket: real Upstream, Intake, Batch and Hubs; the bus is a list.

Everything is in order and nothing is lost, but anything may wait: actions and frames on upstream's wire, commands on
their way to a gateway.  What a gateway's Interest does (listen, acquire, make ready; later the reverse) is played in
steps, so that batches fall between them.
"""

import json
from collections import deque
from typing import Any, Final, cast

import hiredis

from gateway.hub import Hub
from ingest.batch import Encoded, encode_mark_command
from ingest.intake import Intake
from ingest.publisher import Publisher
from ingest.upstream import Upstream
from shared.batch import Mark, parse_mark
from shared.names import Names
from tests.fakes.session import Script, render_frame, render_status
from tests.property.clock import Clock
from tests.property.model import parts_of
from tests.property.polygon import Wire
from tests.unit.gateway.frames import close_batch

NAMES: Final = Names("stocks")
_HEADER_BYTES: Final = {126: 4, 127: 10}  # of an unmasked WebSocket frame, by its second byte (RFC 6455 section 5.2)
_MARK: Final = NAMES.mark.encode()


class Bus:
    """What ingest writes, command for command, to whoever listens by then; stands in for the publisher."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self.gateways: list[Gateway] = []

    def publish(self, encoded: Encoded) -> None:
        self._write(encoded.data)

    def heartbeat(self, mark: Mark) -> None:
        self._write(encode_mark_command(NAMES, mark))

    def _write(self, data: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(data)
        while (words := reader.gets()) is not False:
            if words[0] == b"PUBLISH":
                self._waiting.append((words[1], words[2]))

    def run(self, count: int) -> None:
        """Redis executes the next commands."""
        for _ in range(min(count, len(self._waiting))):
            channel, payload = self._waiting.popleft()
            for gateway in self.gateways:
                if channel == _MARK or channel in gateway.listened:
                    gateway.inbox.append((channel, payload))


class Gateway:
    """A hub behind the bus; a *served* channel of a member is one whose every event it must get."""

    def __init__(self, bus: Bus) -> None:
        self.hub = Hub(NAMES)
        self.listened: set[bytes] = set()
        self.inbox: deque[tuple[bytes, bytes]] = deque()
        self.taken: set[str] = set()
        self.got: dict[str, list[int]] = {}
        self.marks = 0
        self._idle: dict[str, int] = {}  # channels that nobody here holds any more -> marks seen by then
        bus.gateways.append(self)

    def take_up(self) -> set[str]:
        """Listen to what is wanted and count for it; returns the channels, which are to be made ready."""
        new = set(self.hub.get_wanted()) - self.taken
        self.taken |= new
        self._listen()
        return new

    def remove(self, member: str, channels: list[str]) -> None:
        """The member leaves channels."""
        self._idle.update(dict.fromkeys(self.hub.remove(member, channels), self.marks))

    def let_go(self, *, before_a_mark: bool = False) -> set[str]:
        """Give up what is not wanted, and was not when the last mark came; returns the channels."""
        idle = {channel for channel, since in self._idle.items() if before_a_mark or since < self.marks}
        gone = {channel for channel in self.taken & idle if not self.hub.is_wanted(channel)}
        self.taken -= gone
        self.hub.set_unready(gone)
        self._listen()
        return gone

    def _listen(self) -> None:
        self.listened = {NAMES.get_bus_channel(part).encode() for part in parts_of(self.taken)}

    def read(self, count: int) -> None:
        """The next commands arrive."""
        for _ in range(min(count, len(self.inbox))):
            channel, payload = self.inbox.popleft()
            if channel != _MARK:
                self.hub.collect(channel, payload)
                continue
            self.marks += 1
            for frame, members in close_batch(self.hub, parse_mark(payload)):
                events = [event["i"] for event in json.loads(frame[_HEADER_BYTES.get(frame[1], 2) :])]
                for member in members:
                    self.got.setdefault(str(member), []).extend(events)


class Pipeline:
    """Upstream, ingest, bus and gateways; must be built inside a running loop, whose timers then never run out."""

    def __init__(self, clock: Clock, script: Script, gateways: int) -> None:
        self.clock = clock
        self.bus = Bus()
        self.gateways = [Gateway(self.bus) for _ in range(gateways)]
        self.upstream = Upstream("stocks", "key")
        self.upstream.on_drop = self.upstream.drop
        self.intake = Intake(NAMES, cast(Publisher, self.bus), 1, self.upstream.on_status)
        self.upstream.on_wanted_types = self.intake.set_alls
        self.upstream.on_doubled = self.intake.overlap.set_channels
        self.wire = Wire(script, clock.monotonic, list)
        self.actions: deque[str] = deque()
        self.frames: deque[bytes] = deque()
        self.told: set[str] = set()  # what ingest knows to be wanted
        self.upstream.opened(self.actions.append)
        self.intake.take(render_frame([render_status("connected", "Connected Successfully")]))
        self.settle()

    def tell(self) -> None:
        """Ingest hears of all edges."""
        wanted = set().union(*(gateway.taken for gateway in self.gateways))
        more, less = wanted - self.told, self.told - wanted
        self.told = wanted
        self.upstream.update_wanted(more, less)

    def upstream_reads(self, count: int) -> None:
        """Actions arrive at upstream, which answers."""
        for _ in range(min(count, len(self.actions))):
            self.wire.send(self.actions.popleft())
            while (status := self.wire.read()) is not None:
                self.frames.append(render_frame([status]))

    def ingest_reads(self, count: int) -> None:
        """Frames arrive at ingest."""
        for _ in range(min(count, len(self.frames))):
            self.intake.take(self.frames.popleft())

    def beat(self) -> None:
        """Ingest repeats its last mark, as it does whenever it was idle for a second."""
        self.intake.flush()
        self.intake._heartbeat()

    def settle(self) -> None:
        """Whatever is on its way arrives, and time stands still."""
        while self.actions or self.frames:
            self.upstream_reads(1000)
            self.ingest_reads(1000)
        self.intake.flush()
        self.bus.run(100_000)
        for gateway in self.gateways:
            gateway.read(100_000)

    def is_acked(self, channel: str) -> bool:
        """Whether ingest knows that the channel is wanted, and that upstream sends every event of it."""
        held: Any = self.upstream.reconcile.held
        return channel in self.told and all(
            part in held or part.split(".")[0] + ".*" in held for part in parts_of([channel])
        )
