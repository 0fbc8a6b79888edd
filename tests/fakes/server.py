"""The fake server: who is connected, who holds what, and what upstream does to them when a test says so."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from tests.fakes.connection import Action, Connection
from tests.fakes.session import FUTURES_VENUES, TOPICS, Script, find_channel, render_frame

# `FakePolygon.actions` keeps the first so many; later ones are only counted, in `actions_lost`.
ACTIONS_MAX = 100_000
# One subscribe message may hold "1MB worth of characters" [c.1]; a longer one is closed with 1009 (UNKNOWN upstream).
_MESSAGE_BYTES = 1_000_000
_CLOSE_TIMEOUT_S = 2.0


class FakePolygon:
    """Polygon, as far as a client can tell. Its knobs are in `script`.

    `start` after `stop` takes the same port again, as a restart of upstream does.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: frozenset[str] | None = None,
        clusters: Iterable[str] = tuple(TOPICS),
        script: Script | None = None,
        compression: str | None = None,
        ping_interval_s: float | None = None,
    ) -> None:
        """`keys` None: any non-empty key is good. No evidence of compression or of server pings exists: both off."""
        self.host = host
        self.port = port
        self.keys = keys
        self.clusters = frozenset(clusters)
        self.script = script or Script()
        self.compression = compression
        self.ping_interval_s = ping_interval_s
        self.actions: list[Action] = []
        self.actions_lost = 0
        # The most connections ever authenticated at one time with one key on one cluster.
        self.max_seen_connections = 0
        self._server: Server | None = None
        self._open: list[Connection] = []  # in order of connecting; bounded by the clients there are
        self._count = 0
        self._evictions: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    # -- life

    async def start(self) -> None:
        self._server = await serve(
            self._serve,
            self.host,
            self.port,
            process_request=self._screen,
            compression=self.compression,
            ping_interval=self.ping_interval_s,
            max_size=_MESSAGE_BYTES,
            open_timeout=_CLOSE_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End as a killed server does: no close frames. Harmless if not running."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close(close_connections=False)
        await self.drop()
        await server.wait_closed()
        await asyncio.gather(*self._evictions)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return self.url_of("stocks")

    def url_of(self, cluster: str) -> str:
        return f"ws://{self.host}:{self.port}/{cluster}"

    # -- what upstream does

    async def emit(self, *events: bytes) -> int:
        """Send events in one frame, to each client those whose channel it holds; returns how many clients got some.

        Raises ValueError for bytes that have no channel: `send_raw` is for those.
        """
        channels = [_get_channel(event) for event in events]
        reached = 0
        for connection in self.live():
            copies = [connection.session.copies(channel) for channel in channels]
            if any(copies):
                due = [event for event, count in zip(events, copies, strict=True) for _ in range(count)]
                connection.write(render_frame(due))
                reached += 1
        return reached

    async def send_raw(self, frame: str | bytes) -> None:
        """Send any text (str) or binary (bytes) frame, verbatim, to every authenticated client."""
        for connection in self.live():
            connection.write(frame.encode() if isinstance(frame, str) else frame, text=isinstance(frame, str))

    async def replay(self, path: str | Path, cluster: str = "stocks") -> list[str]:
        """Send a recording's data frames of a cluster, business and launchpad ones too, to all; returns the frames."""
        frames = read_frames(Path(path), cluster)
        for frame in frames:
            await self.send_raw(frame)
        return frames

    async def drop(self, *, close_code: int | None = None) -> None:
        """End every connection: None = TCP abort without a close frame, else a close frame with that code."""
        doomed = [connection.socket for connection in self._open]
        if close_code is None:
            await asyncio.sleep(0)  # uvloop writes at the end of a turn; abort() would discard what was just emitted
            for socket in doomed:
                socket.transport.abort()
        else:
            await asyncio.gather(*(socket.close(close_code) for socket in doomed))
        await asyncio.gather(*(socket.wait_closed() for socket in doomed))

    async def wait_unread(self, timeout_s: float = 5.0) -> bool:
        """Wait until every client has taken all that was sent, or has gone; False if one does not in time."""
        deadline = time.monotonic() + timeout_s
        while unread := any(connection.unread_bytes for connection in self.live()):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.005)  # a transport tells nobody when its buffer is empty
        return not unread

    def stall(self) -> None:
        """Go half-open: read nothing more from the connections there are, and so answer no ping either."""
        for connection in self._open:
            connection.socket.transport.pause_reading()

    # -- facts

    @property
    def connections(self) -> int:
        return len(self.live())

    def live(self) -> list[Connection]:
        """The authenticated connections, oldest first."""
        return [connection for connection in self._open if connection.live]

    def held(self) -> set[str]:
        """Every channel that some live connection holds, as the client spelled it."""
        return {channel for connection in self.live() for channel in connection.session.held.values()}

    async def wait_for(self, predicate: Callable[[], bool], timeout_s: float | None = 5.0) -> None:
        """Return once the predicate is true; it is asked at each action, reply, connect and disconnect.

        Raises TimeoutError, which tells what the fake saw instead.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not predicate():
                    await self._changed.wait()
        except TimeoutError:
            seen = [(action.connection, action.action, action.params[:80]) for action in self.actions[-5:]]
            facts = f"connections {self.connections}, held {sorted(self.held())[:20]}, last actions {seen}"
            raise TimeoutError(f"not true within {timeout_s} s: {facts}") from None

    async def wait_held(self, channels: Iterable[str], timeout_s: float = 5.0) -> None:
        """Return once every one of these is held (others may be too)."""
        wanted = set(channels)
        await self.wait_for(lambda: wanted <= self.held(), timeout_s)

    # -- what connections ask (`connection.Server`)

    def record(self, action: Action) -> None:
        if len(self.actions) < ACTIONS_MAX:
            self.actions.append(action)
        else:
            self.actions_lost += 1
        self.note()

    def accepts(self, key: str) -> bool:
        return bool(key) if self.keys is None else key in self.keys

    def authenticated(self, connection: Connection) -> None:
        seen = sum(other.account == connection.account for other in self.live())
        self.max_seen_connections = max(self.max_seen_connections, seen)
        if self.script.evict_at == "auth":
            self._admit(connection)

    def subscribed(self, connection: Connection) -> None:
        if self.script.evict_at == "subscribe":
            self._admit(connection)

    def note(self) -> None:
        """Wake whoever waits for a fact."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _admit(self, connection: Connection) -> None:
        """Let it in, and evict by the limit; who loses was mostly, not always, seen to be the older one [c.1]."""
        if connection.admitted:
            return
        connection.admitted = True
        rivals = [other for other in self.live() if other.admitted and other.account == connection.account]
        excess = max(0, len(rivals) - self.script.connection_limit)
        for loser in rivals[:excess] if self.script.loser == "older" else rivals[len(rivals) - excess :]:
            task = asyncio.create_task(loser.evict(), name=f"evict-{loser.number}")
            self._evictions.add(task)
            task.add_done_callback(self._evictions.discard)

    # -- one connection

    def _screen(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse the upgrade or let it pass."""
        if self.script.refuse_http is not None:
            return socket.respond(self.script.refuse_http, "refused\n")
        return None if self._find_cluster(request) else socket.respond(404, "no such cluster\n")

    def _find_cluster(self, request: Request) -> str | None:
        """The cluster of a path [a]; a query is ignored [c.1]."""
        cluster, slash, venue = request.path.partition("?")[0].removeprefix("/").partition("/")
        if slash and (cluster != "futures" or venue not in FUTURES_VENUES):
            return None
        return cluster if cluster in self.clusters else None

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        if self._server is None:  # accepted in the very turn in which we stopped
            socket.transport.abort()
            return
        self._count += 1
        cluster = self._find_cluster(socket.request) or ""
        connection = Connection(self._count, cluster, socket, self.script, self)
        self._open.append(connection)
        try:
            await connection.run()
        finally:
            self._open.remove(connection)
            self.note()


def read_frames(path: Path, cluster: str) -> list[str]:
    """The data frames of one cluster in a recording: a JSON object a line with `cluster`, `kind` and `frame`."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["frame"] for row in rows if row["kind"] == "data" and row["cluster"].partition("(")[0] == cluster]


def _get_channel(event: bytes) -> str:
    channel = find_channel(event)
    if channel is None:
        raise ValueError(f"an event without ev or symbol: {event!r}")
    return channel
