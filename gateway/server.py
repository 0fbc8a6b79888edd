"""The door: accepts clients, reads their messages, and does what their sessions ask for."""

import asyncio
import heapq
import http
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from gateway.client import CLOSE_WITHIN_S, Client, ClientConnection, Slow
from gateway.held import Held
from gateway.hub import Hub
from gateway.interest import Interest
from gateway.keys import Keys
from gateway.outbox import CONFLATED_MOST_S, WRITE_LIMIT_BYTES
from gateway.resume import find_name
from gateway.returning import Returning
from gateway.session import Session, State, Step
from shared.channels import ALL
from shared.protocol import (
    CLOSE_POLICY,
    CLOSE_RESTART,
    CONNECTED,
    MAX_ACTION_BYTES,
    MAX_CONNECTIONS,
    Status,
    error,
)

_log = logging.getLogger(__name__)
_CLOSED_FOR_ABUSE: Final = (1002, 1007, 1009)  # the library's own: protocol error, not UTF-8, too long (RFC 6455 7.4.1)
AUTH_WITHIN_S: Final = 30.0  # upstream's own limit is unknown (PROTOCOL g)
SLOWEST: Final = 10
_NOT_READY_S: Final = 0.5  # between /health saying so and the closed port, for who looks at it often
_DRAIN_S: Final = 20.0  # clients are sent away over so long at most, each with CLOSE_WITHIN_S to go: promised <= 30 s
_LAST_WORDS_S: Final = 5.0  # for what they got to be recorded
_DRAIN_RATE: Final = 100  # clients a second, which is what the other gateways must accept meanwhile
_GOOD_NEWS: Final = ("auth_success", "success")
ACK_WITHIN_S: Final = 2.0  # upstream can stay silent, or Redis; then the ack only says that the gateway took note


class Limits(NamedTuple):
    """Bounds of one gateway: clients at once, and events that wait for one client."""

    clients: int
    events: int


def _get_query(query: str, name: str) -> str:
    """The first value of a query parameter, or nothing."""
    return parse_qs(query).get(name, [""])[0]


class Door:
    """All clients of this gateway."""

    def __init__(
        self, feed: str, keys: Keys, hub: Hub, interest: Interest, held: Held, returning: Returning, limits: Limits
    ) -> None:
        self._feed = feed
        self._keys = keys
        self._hub = hub
        self._interest = interest
        self._held = held
        self._returning = returning
        returning.on_caught_up = self._on_caught_up
        self._limits = limits
        self._server: Server | None = None
        self._loop = asyncio.get_running_loop()
        self.clients: set[Client] = set()
        self.refused_clients = 0
        self.slow_clients = 0
        self._conflated_before = 0  # events that clients who have left did not get
        self._told = held.test_data
        self.is_leaving = False
        self.find_trouble: Callable[[], str] = lambda: ""  # why it is not ready for clients, for /health
        self.bad_messages = 0
        self.unknown_topics = 0

    def on_change(self) -> None:
        """Something that acks wait for may have happened."""
        if self._held.test_data != self._told:
            self._tell_test_data()
        for client in self.clients:
            if client.session.owed or client.session.refused or self._held.refused:
                self._settle(client)

    def _tell_test_data(self) -> None:
        """It changed what is played: who is connected hears it too, but not in the place of an auth reply."""
        self._told = self._held.test_data
        for client in self.clients:
            if client.session.state is State.AUTHENTICATED:
                client.send(self._told)

    @property
    def conflated_events(self) -> int:
        """Events that clients did not get because they were slow, since this gateway started."""
        return self._conflated_before + sum(client.outbox.conflated_events for client in self.clients)

    @property
    def conflating_clients(self) -> int:
        """Clients that get the newest only just now."""
        return sum(client.outbox.is_conflating for client in self.clients)

    def find_slowest(self) -> list[Slow]:
        """The clients that are most behind, the worst first; at most SLOWEST, none that never was behind."""
        behind = (slow for client in self.clients if any((slow := client.measure())[1:]))
        return heapq.nlargest(SLOWEST, behind, key=lambda slow: slow[1:])

    async def open(self, host: str, port: int, ping_s: float) -> None:
        """Accept clients; raises OSError if the port cannot be had.  Other gateways may share the port."""
        self._server = await serve(
            self._serve,
            host,
            port,
            reuse_port=True,
            process_request=self._check_path,
            create_connection=ClientConnection,
            compression=None,
            max_size=MAX_ACTION_BYTES,
            write_limit=WRITE_LIMIT_BYTES,
            ping_interval=ping_s,
            # A slow client's pong comes late, and what it is closed for is slowness: that has to be found first.
            ping_timeout=ping_s + CONFLATED_MOST_S,
            close_timeout=CLOSE_WITHIN_S,
            server_header="polygon-proxy",
        )

    def _check_path(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            parts = urlsplit(request.path)
            find_name(_get_query(parts.query, "resume"), self._feed)
        except ValueError as exc:
            self.bad_messages += 1
            return connection.respond(http.HTTPStatus.BAD_REQUEST, f"{exc}\n")
        if parts.path == "/health":
            trouble = "this gateway leaves" if self.is_leaving else self.find_trouble()
            ready = http.HTTPStatus.SERVICE_UNAVAILABLE if trouble else http.HTTPStatus.OK
            return connection.respond(ready, f"{trouble or ready.phrase}\n")
        if parts.path in (f"/{self._feed}", "/"):
            return None
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"connect to /{self._feed}\n")

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, ClientConnection)
        query = urlsplit(connection.request.path).query if connection.request is not None else ""
        name = find_name(_get_query(query, "resume"), self._feed)
        outbox = self._returning.make_outbox(connection, name, self._limits.events)
        client = Client(connection, Session(self._feed, self._keys.accepts), outbox, name)
        if len(self.clients) >= self._limits.clients:
            self.refused_clients += 1
            _log.warning("%s: refused, %d clients are connected (MAX_CLIENTS)", client.label, len(self.clients))
            client.send([MAX_CONNECTIONS])
            await client.close(CLOSE_POLICY, "too many clients")
            return
        self.clients.add(client)
        try:
            await client.run(self._converse(client, _get_query(query, "apiKey")))
        except* ConnectionClosed as group:
            _log.info("%s: gone (%s)", client.label, group.exceptions[0])
            sent = group.exceptions[0].sent if isinstance(group.exceptions[0], ConnectionClosed) else None
            if sent is not None and sent.code in _CLOSED_FOR_ABUSE:
                self.bad_messages += 1
        finally:
            self.clients.discard(client)
            self._conflated_before += client.outbox.conflated_events
            self._interest.unwant(self._hub.drop(client.outbox))
            await self._returning.end(client)

    async def _converse(self, client: Client, url_key: str) -> None:
        client.send([CONNECTED, *self._held.test_data])
        client.start("watch", self._watch(client))
        await self._act(client, client.session.authenticate_by_url(url_key))
        async for message in client.connection:
            await self._act(client, client.session.receive(message))

    async def _act(self, client: Client, step: Step) -> None:
        self.unknown_topics += step.unknown_topics
        if step.complaint:
            self.bad_messages += 1
            if client.session.bad_messages <= 1:
                _log.info("%s: %s", client.label, step.complaint)
        self._send(client, step.statuses)
        if client.session.state is State.AUTHENTICATED:
            client.authenticated.set()
            await self._returning.claim(client)
        if step.add:
            self._returning.add(client, step.add)
            self._interest.want(self._hub.add(client.outbox, step.add))
            self._settle(client, step.add)
            if client.session.owed:
                self._loop.call_later(ACK_WITHIN_S, self._settle_late, client, step.add, client.session.asks)
        if step.remove:
            self._let_go(client, step.remove)
        if step.close:
            await client.close(CLOSE_POLICY, step.complaint[:100])

    def _let_go(self, client: Client, channels: Iterable[str] = ()) -> None:
        gone = self._returning.remove(client, channels)
        self._interest.unwant(self._hub.remove(client.outbox, gone))

    def _on_caught_up(self, client: Client) -> None:
        self._let_go(client)
        self._settle(client)

    async def _watch(self, client: Client) -> None:
        """Close a client that brings no key in time, or reads too slowly."""
        try:
            async with asyncio.timeout(AUTH_WITHIN_S):
                await client.authenticated.wait()
        except TimeoutError:
            await self._act(client, client.session.give_up())
        await client.outbox.full.wait()
        self.slow_clients += 1
        await client.close_slow()

    def _settle(self, client: Client, channels: Iterable[str] | None = None) -> None:
        """Tell the client what became of these channels, or of all that it asked for, as far as that is known."""
        session = client.session
        statuses: list[Status] = []
        for channel in [*session.owed, *session.refused] if channels is None else channels:
            if self._held.is_held(channel) and self._hub.has_joined(client.outbox, channel):
                statuses += self._acknowledge(session, channel)
        if self._held.refused:
            # Only what is refused is looked at: a client may hold 50,000 channels.
            for channel in sorted(({ALL, *self._held.refused} & session.spellings.keys()) - session.refused):
                if (text := self._held.find_refusal(channel)) is not None:
                    statuses.append(session.refuse(channel, text))
            statuses += self._tell_refused_parts(session)
        self._send(client, statuses)

    def _send(self, client: Client, statuses: Sequence[Status]) -> None:
        """What a client is answered; behind good news it hears whether this is the market at all."""
        if self._held.test_data and any(status.status in _GOOD_NEWS for status in statuses):
            statuses = [*statuses, *self._held.test_data]
        client.send(statuses)

    def _acknowledge(self, session: Session, channel: str) -> list[Status]:
        return [*session.acknowledge([channel]), *self._tell_refused_parts(session)]

    def _tell_refused_parts(self, session: Session) -> list[Status]:
        """Whoever holds `*` hears once of each part that upstream refuses."""
        if ALL not in session.spellings or ALL in session.owed or ALL in session.refused:
            return []
        parts = {p: text for p, text in self._held.find_refused_parts(ALL).items() if p not in session.told_parts}
        session.told_parts.update(parts)
        return [error(f"{text}: {part}") for part, text in parts.items()]

    def _settle_late(self, client: Client, channels: Iterable[str], ask: int) -> None:
        """Upstream was silent for too long: ack what is still owed, for nothing speaks against it.

        But not what waits behind a replay: its events do not come yet, and nobody would give them later.
        """
        owed = [channel for channel in channels if client.session.owed.get(channel) == ask]
        outbox = client.outbox
        waiting = [c for c in owed if self._hub.find_late(outbox) and not self._hub.has_joined(outbox, c)]
        if waiting:
            owed = [channel for channel in owed if channel not in waiting]
            self._loop.call_later(ACK_WITHIN_S, self._settle_late, client, waiting, ask)
        self._send(client, [status for channel in owed for status in self._acknowledge(client.session, channel)])

    async def leave(self) -> None:
        """Send every client away with a code after which it comes back, not all at once, and accept no more."""
        self.is_leaving = True
        if self._server is None:
            return
        await asyncio.sleep(_NOT_READY_S)
        self._server.close(close_connections=False)
        clients = list(self.clients)
        spread_s = min(_DRAIN_S, len(clients) / _DRAIN_RATE)
        _log.info("leaving: %d clients are sent away within %.1f s", len(clients), spread_s)
        await asyncio.gather(*(self._send_away(client, spread_s * random.random()) for client in clients))
        # Who shook hands while the port was being closed.
        await asyncio.gather(*(self._send_away(client, 0.0) for client in list(self.clients)))
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._server.wait_closed()
        except TimeoutError:
            _log.warning("leaving: %d clients are not gone", len(self.clients))

    async def _send_away(self, client: Client, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await client.close(CLOSE_RESTART, "gateway restarts")
