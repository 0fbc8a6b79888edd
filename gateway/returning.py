"""What a client that can resume needs beside any other: its name claimed, what it missed replayed, its receipt kept."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Set
from functools import partial
from typing import Final, cast

from redis.exceptions import RedisError
from websockets.exceptions import ConnectionClosed

from gateway.client import MOST_REPLAYS, Client, ClientConnection
from gateway.counted import CountedOutbox, CountedTransport
from gateway.hub import Hub
from gateway.log import Log
from gateway.missed import Taken
from gateway.outbox import Outbox
from gateway.reader import Reader
from gateway.receipt import Lane, Receipt
from gateway.replay import Replay
from gateway.resume import SAVE_S, Resumption
from shared.channels import ALL, expand, get_wildcard, is_covered, is_wildcard
from shared.demand import ASKED_S
from shared.names import Names
from shared.notice import Addressed, make_gap
from shared.protocol import CLOSE_POLICY, Status, error

_log = logging.getLogger(__name__)
PASSED: Final = "a wildcard that did not lack them came first"
_MOST_ASKED: Final = 250  # pings under way, so for who is 100 s behind; beyond it more may come again after a kill
_GIVEN_UP: Final = "they were given up before what was missed of them had come"


class Returning:
    """Serves the clients of one gateway that have a name; of any other client it does nothing.

    `on_caught_up` hears whenever a client has got what it missed of some channels.
    """

    def __init__(
        self, resumption: Resumption, log: Log, hub: Hub, names: Names, until_mark: Callable[[], Awaitable[None]]
    ) -> None:
        self._resumption = resumption
        self._reader = Reader(log)
        self._hub = hub
        self._names = names
        self._until_mark = until_mark
        self.on_caught_up: Callable[[Client], None] = lambda _client: None

    def make_outbox(self, connection: ClientConnection, name: str | None, limit_events: int) -> Outbox:
        """The outbox of a new client."""
        if name is None:
            return Outbox(connection.transport, limit_events)
        transport = CountedTransport(connection.transport)
        connection.transport = transport  # type: ignore[assignment]  # it is one, by __getattr__
        return CountedOutbox(transport, limit_events, Receipt(self._hub.last_mark), lambda: self._hub.last_mark)

    async def claim(self, client: Client) -> None:
        """The client has authenticated: find out what it missed."""
        if client.name is not None and client.resumer is None and isinstance(client.outbox, CountedOutbox):
            outbox = client.outbox
            client.resumer = await self._resumption.claim(client.name, outbox.receipt, lambda: outbox.is_closed)
            if client.resumer is None:
                return
            client.start("confirm", self._confirm(client, client.outbox))
            client.start("taken over", self._yield(client, client.outbox))

    async def _confirm(self, client: Client, outbox: CountedOutbox) -> None:
        """Ask again and again what has surely arrived; a slow client answers when it has read up to the question."""
        asked = 0

        def hear(count: int, pong: asyncio.Future[float]) -> None:
            nonlocal asked
            asked -= 1
            if client.resumer is not None and not pong.cancelled() and pong.exception() is None:
                outbox.receipt.arrived(count)
                client.resumer.confirm()

        try:
            while client.resumer is not None:
                await asyncio.sleep(SAVE_S)
                if asked < _MOST_ASKED:
                    count = outbox.note()
                    pong = cast("asyncio.Future[float]", await client.connection.ping())
                    asked += 1
                    pong.add_done_callback(partial(hear, count))
        except ConnectionClosed:
            return

    async def _yield(self, client: Client, outbox: CountedOutbox) -> None:
        """Somebody else has come with the same name, and waits to be told how far this one got: then it ends."""
        if client.resumer is not None:
            await client.resumer.taken_over.wait()
            _log.warning("%s: closed, another connection came with resume=%s", client.label, client.name)
            await outbox.finish()
            await self.end(client)
            client.send_last([error(f"another connection came with resume={client.name}")])
            await client.close(CLOSE_POLICY, "resumed elsewhere")

    def add(self, client: Client, channels: Iterable[str]) -> None:
        """The client is about to hold these: what it held before comes from where it left off."""
        if client.resumer is None or not isinstance(client.outbox, CountedOutbox):
            return
        rest = set(channels)
        before = self._find_begun(client, rest)
        all_taken, lost = client.resumer.missed.take(self._names.feed, rest)
        for lane in lost:
            client.send([self._make_lost(lane, PASSED)])
        self._hub.hold_off(client.outbox, set[str]().union(*(taken.lane.channels for taken in all_taken)))
        for taken in all_taken:
            rest -= taken.lane.channels
            others = before.union(*(other.lane.channels for other in all_taken if other is not taken))
            self._start_replay(client, client.outbox, taken, others)
        client.resumer.receipt.add(rest - self._hub.find_late(client.outbox))  # asked for again: it has its lane
        client.resumer.confirm()
        self._resumption.save_soon()

    def _find_begun(self, client: Client, channels: Set[str]) -> set[str]:
        """What the client had something of, before it asks for these; looked for only if a wildcard may be above it."""
        if client.resumer is None or not any(is_wildcard(channel) or channel == ALL for channel in channels):
            return set()
        return (client.session.spellings.keys() - channels) | client.resumer.missed.begun

    def _start_replay(self, client: Client, outbox: CountedOutbox, taken: Taken, others: Set[str]) -> None:
        # What comes live already, or is caught up in a lane of its own, comes from there alone.
        whole = {part for part in expand(self._names.feed, taken.lane.channels) if is_wildcard(part)}
        place = taken.lane.position[:2]
        waiting = client.next_replays.get(place)
        if not whole and waiting is not None and waiting.extend(taken.lane.channels):
            return
        begun = {other for other in others if is_covered(other, whole)}
        apart = self._find_apart(outbox, begun, self._hub.find_late(outbox) - taken.lane.channels)
        got = [*taken.got, Lane(self._hub.last_mark, begun - apart)]
        replay = Replay(self._reader, self._hub, self._names, outbox, taken.lane, self._until_mark, apart, got)
        if whole:  # it may have to wait for the exact ones
            client.start("replay", self._replay(client, replay))
        else:
            client.next_replays[place] = replay
            client.start("replay", self._replay_in_turn(client, replay))

    def _find_apart(self, outbox: Outbox, channels: Iterable[str], late: Set[str]) -> set[str]:
        """Those that come live, or are caught up in a lane of their own or of a wildcard that is late."""
        return {
            channel
            for channel in channels
            if not late.isdisjoint((channel, get_wildcard(channel))) or self._hub.has_joined(outbox, channel)
        }

    async def _replay_in_turn(self, client: Client, replay: Replay) -> None:
        while client.replays >= MOST_REPLAYS:
            replay.note_ready()
            await self._until_mark()
        client.replays += 1
        await self._replay(client, replay)
        client.replays -= 1

    async def _replay(self, client: Client, replay: Replay) -> None:
        while True:
            try:
                await replay.run()
                self.on_caught_up(client)
                return
            except (RedisError, OSError) as exc:
                _log.warning("%s: what it missed cannot be read yet (%s)", client.label, exc)
                await self._until_mark()

    def remove(self, client: Client, channels: Iterable[str]) -> Collection[str]:
        """The client holds these no more; returns those that are not to come any more, with such as it gave up before.

        What a wildcard above it leaves to it comes on until both are live.
        """
        if client.resumer is None:
            return list(channels)
        client.given_up.update(channels)
        if client.given_up:
            client.given_up -= client.session.spellings.keys()
        late = self._hub.find_late(client.outbox)
        gone = {channel for channel in client.given_up if not self._comes_on(client, channel, late)}
        client.given_up -= gone
        for lane in client.resumer.receipt.find_lanes(gone & late):
            client.send([self._make_lost(lane, _GIVEN_UP)])
        client.resumer.receipt.remove(gone, late)
        client.resumer.confirm()
        return gone

    def _comes_on(self, client: Client, channel: str, late: Set[str]) -> bool:
        above = client.session.spellings.keys() & {get_wildcard(channel), ALL}
        is_left_out = not above.isdisjoint(late) and self._hub.has_joined(client.outbox, channel)
        return bool(above) and (channel in late or is_left_out)

    def _make_lost(self, lane: Lane, cause: str) -> Status:
        """The gap of what was missed and will not come any more."""
        from_ms, to_ms = lane.position.received_us // 1000, self._hub.last_mark.received_us // 1000
        notice = make_gap(from_ms, to_ms + int(ASKED_S * 1000), cause, lane.channels)
        status = Addressed(notice).find_status(frozenset(lane.channels))
        assert status is not None, "it concerns these"
        return status

    async def end(self, client: Client) -> None:
        """The client's connection is over."""
        if client.resumer is not None and isinstance(client.outbox, CountedOutbox):
            if client.outbox.is_settled:
                client.resumer.confirm()
            await self._resumption.end(client.resumer)
