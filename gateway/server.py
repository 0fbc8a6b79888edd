"""The door: accepts clients, reads their messages, and does what their sessions ask for."""

import asyncio
import contextlib
import hmac
import http
import logging
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from gateway.client import CLOSE_WITHIN_S, Client, ClientConnection
from gateway.held import Held
from gateway.hub import Hub
from gateway.interest import Interest
from gateway.outbox import WRITE_LIMIT_BYTES
from gateway.session import Session, State, Step
from shared.protocol import CLOSE_POLICY, CLOSE_RESTART, CONNECTED, MAX_ACTION_BYTES, MAX_CONNECTIONS

_log = logging.getLogger(__name__)
AUTH_WITHIN_S: Final = 30.0  # upstream's own limit is unknown (PROTOCOL g)
ACK_WITHIN_S: Final = 2.0  # upstream can stay silent; then the ack only says that the gateway took note
_UNACKED_TASKS: Final = 64  # subscribe messages of one client whose acks are owed; beyond it the next one waits


class Keys:
    """The keys that clients may use; none configured means any that is not empty."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def accepts(self, key: str) -> bool:
        """Whether the key is one of ours, in a time that does not tell which."""
        given = key.encode("utf-8", "surrogatepass")
        if not self._keys:
            return bool(given)
        return sum(hmac.compare_digest(given, known) for known in self._keys) > 0  # all compared, always


class Door:
    """All clients of this gateway."""

    def __init__(
        self, feed: str, keys: Keys, hub: Hub, interest: Interest, held: Held, max_clients: int, limit_events: int
    ) -> None:
        self._feed = feed
        self._keys = keys
        self._hub = hub
        self._interest = interest
        self._held = held
        self._max_clients = max_clients
        self._limit_events = limit_events
        self._changed = asyncio.Event()
        self._server: Server | None = None
        self.clients: set[Client] = set()
        self.refused_clients = 0
        self.slow_clients = 0
        self.bad_messages = 0
        self.unknown_topics = 0

    def on_change(self) -> None:
        """Something that acks wait for may have happened."""
        self._changed.set()
        self._changed = asyncio.Event()

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
            ping_timeout=max(ping_s, 20.0),
            close_timeout=CLOSE_WITHIN_S,
            server_header="polygon-proxy",
        )

    def _check_path(self, connection: ServerConnection, request: Request) -> Response | None:
        if urlsplit(request.path).path in (f"/{self._feed}", "/"):
            return None
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"connect to /{self._feed}\n")

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, ClientConnection)
        client = Client(connection, Session(self._feed, self._keys.accepts), self._limit_events)
        if len(self.clients) >= self._max_clients:
            self.refused_clients += 1
            _log.warning("%s: refused, %d clients are connected (MAX_CLIENTS)", client.label, len(self.clients))
            client.send([MAX_CONNECTIONS])
            await client.close(CLOSE_POLICY, "too many clients")
            return
        self.clients.add(client)
        try:
            await self._converse(client)
        except* ConnectionClosed as group:
            _log.info("%s: gone (%s)", client.label, group.exceptions[0])
        finally:
            self.clients.discard(client)
            self._interest.unwant(self._hub.drop(client.outbox))

    async def _converse(self, client: Client) -> None:
        client.send([CONNECTED])
        request = client.connection.request
        url_keys = parse_qs(urlsplit(request.path).query).get("apiKey", [""]) if request is not None else [""]
        await self._act(client, client.session.authenticate_by_url(url_keys[0]))
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(client), name=f"{client.label} watch")
            acks: set[asyncio.Task[None]] = set()
            async for message in client.connection:
                step = client.session.receive(message)
                await self._act(client, step)
                if step.add:
                    task = group.create_task(self._acknowledge(client, list(step.add)), name=f"{client.label} acks")
                    acks.add(task)
                    task.add_done_callback(acks.discard)
                    if len(acks) > _UNACKED_TASKS:
                        await asyncio.wait(acks, return_when=asyncio.FIRST_COMPLETED)
            for task in (watch, *acks):
                task.cancel()

    async def _act(self, client: Client, step: Step) -> None:
        self.unknown_topics += step.unknown_topics
        if step.complaint:
            self.bad_messages += 1
            if client.session.bad_messages <= 1:
                _log.info("%s: %s", client.label, step.complaint)
        client.send(step.statuses)
        if client.session.state is State.AUTHENTICATED:
            client.authenticated.set()
        if step.add:
            self._interest.want(self._hub.add(client.outbox, step.add))
        if step.remove:
            self._interest.unwant(self._hub.remove(client.outbox, step.remove))
        if step.close:
            await client.close(CLOSE_POLICY, step.complaint[:100])

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

    async def _acknowledge(self, client: Client, channels: list[str]) -> None:
        """Ack each channel once the client gets its events and upstream holds it, or after ACK_WITHIN_S."""
        waiting = channels
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACK_WITHIN_S):
                while waiting:
                    changed = self._changed
                    good = [channel for channel in waiting if self._is_served(client, channel)]
                    client.send(client.session.acknowledge(good))
                    waiting = [channel for channel in waiting if channel not in set(good)]
                    if waiting:
                        await changed.wait()
        client.send(client.session.acknowledge(waiting))

    def _is_served(self, client: Client, channel: str) -> bool:
        return self._hub.has_joined(client.outbox, channel) and self._held.is_held(channel)

    async def close(self) -> None:
        """Accept no more, and send every client away with a code after which it comes back."""
        if self._server is None:
            return
        self._server.close(close_connections=False)
        await asyncio.gather(*(client.close(CLOSE_RESTART, "gateway restarts") for client in list(self.clients)))
        await self._server.wait_closed()
