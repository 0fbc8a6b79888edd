"""A batch in the making: events grouped by channel, then encoded as one write to Redis.  Pure, hot.

One write holds, in this order: XADD to the log, one PUBLISH per notice, per channel and per wanted `all:EV`, the mark;
and while somebody records, an XADD of the frames (ingest/tape.py).
The log's entry holds the very PUBLISH commands, so that a missed batch can be read with the code that reads the bus.
"""

from typing import Final, NamedTuple

from shared.batch import Mark, encode_command, encode_mark
from shared.channels import make_channel
from shared.names import Names
from shared.notice import Notice, encode_notice
from shared.split import Head, Split

_MAX_ROUTES: Final = 200_000  # cached (event type, symbol) pairs; beyond it the cache starts anew: ~100 ms of misses

OBJECTS_BYTES: Final = 650  # of an Encoded and what it is made of; more than its events on a quiet day


class _Route:
    """Where the events of one (event type, symbol) go, and those of the batch in the making."""

    __slots__ = ("all_bodies", "bodies", "head")

    def __init__(self, head: bytes, all_bodies: list[bytes] | None) -> None:
        self.head = head  # the PUBLISH command up to the length of its payload
        self.bodies: list[bytes] = []
        self.all_bodies = all_bodies  # the batch's list for all:EV while that is wanted


class Encoded(NamedTuple):
    """A batch ready to be written; `replies` is how many answers Redis will give to it."""

    log: bytes  # XADD up to its last argument, which is `published`
    published: bytes
    mark_command: bytes
    replies: int
    mark: Mark
    is_notice: bool = False  # no event is in it
    frames: bytes = b""  # the XADD of what was received meanwhile, for recorders; they wait, so it is the last

    @property
    def data(self) -> bytes:
        """What is to be written; `published` is in it twice, and in memory once."""
        logged = [self.log, self.published, b"\r\n"] if self.log else []
        return b"".join([*logged, self.published, self.mark_command, self.frames])

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.log) + len(self.published) + len(self.mark_command) + len(self.frames) + OBJECTS_BYTES

    @property
    def appends(self) -> int:
        """How many of its commands Redis refuses when it has had them before."""
        return bool(self.log) + bool(self.frames)

    def with_frames(self, command: bytes) -> "Encoded":
        """The same batch, with the command that keeps what was received meanwhile."""
        return self._replace(frames=command, replies=self.replies + 1)


class Batch:
    """Collects split frames; `encode` closes the batch and starts the next."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._alls: dict[str, list[bytes]] = {}
        self._reset_routes()
        self._notices: list[bytes] = []  # PUBLISH commands
        self._end_notices: list[bytes] = []
        self.events = 0  # and notices

    @property
    def alls(self) -> frozenset[str]:
        """The event types that are also published as all:EV."""
        return frozenset(self._alls)

    def set_alls(self, event_types: frozenset[str]) -> None:
        """Say which event types are wanted whole; only between batches."""
        assert not self._touched, "a batch is all or nothing for a wildcard"
        self._alls = {event_type: [] for event_type in sorted(event_types)}
        self._reset_routes()

    def _reset_routes(self) -> None:
        self._routes: dict[str, dict[str, _Route]] = {}
        self._route_count = 0
        self._touched: list[_Route] = []
        self._statuses = _Route(b"", None)
        self._unroutable = _Route(b"", None)

    def add(self, split: Split) -> None:
        """Take the events of a frame in; statuses and events without a symbol are put aside."""
        routes = self._routes
        touched = self._touched
        for head, body in zip(split.heads, split.bodies, strict=True):
            try:
                route = routes[head.ev][head.sym or head.symbol]
            except KeyError:
                route = self._make_route(head)
            bodies = route.bodies
            if not bodies:
                touched.append(route)
            bodies.append(body)
            if route.all_bodies is not None:
                route.all_bodies.append(body)
        self.events += len(split.bodies)

    def add_notice(self, notice: Notice, *, at_end: bool = False) -> None:
        """Take a notice in; it comes before the events of this batch, or after them."""
        notices = self._end_notices if at_end else self._notices
        notices.append(encode_command(b"PUBLISH", self._names.notices.encode(), encode_notice(notice)))
        self.events += 1

    def _make_route(self, head: Head) -> _Route:
        symbol = head.symbol
        if head.ev == "status":
            route = self._statuses
        elif not symbol or not head.ev:
            route = self._unroutable
        else:
            channel = make_channel(self._names.feed, head.ev, symbol)
            route = _Route(_get_publish_head(self._names.get_exact_bus_channel(channel)), self._alls.get(head.ev))
        self._route_count += 1
        self._routes.setdefault(head.ev, {})[symbol] = route
        return route

    def take_statuses(self) -> list[bytes]:
        """The statuses among what was added since the last call, each a whole JSON object."""
        return self._take_aside(self._statuses)

    def take_unroutable(self) -> list[bytes]:
        """The events without a symbol among what was added since the last call."""
        return self._take_aside(self._unroutable)

    def _take_aside(self, route: _Route) -> list[bytes]:
        bodies = route.bodies
        if not bodies:
            return []
        self._touched.remove(route)
        self.events -= len(bodies)
        route.bodies = []
        return [b"{%b}" % body for body in bodies]

    def encode(self, epoch: int, sequence: int, received_us: int, oldest_logged: str) -> Encoded:
        """Close the batch under `epoch-sequence`; the log forgets what came before the id `oldest_logged`."""
        parts, self._notices = self._notices, []
        is_notice = bool(parts) and not self._touched
        for route in self._touched:
            payload = b"},{".join(route.bodies)
            parts.append(b"%b%d\r\n[{%b}]\r\n" % (route.head, len(payload) + 4, payload))
            route.bodies.clear()
        for event_type, bodies in self._alls.items():
            if bodies:
                channel = self._names.get_bus_channel(f"{event_type}.*").encode()
                parts.append(encode_command(b"PUBLISH", channel, b"[{%b}]" % b"},{".join(bodies)))
                bodies.clear()
        parts += self._end_notices
        self._end_notices.clear()
        mark = Mark(epoch, sequence, received_us, self.events, self.alls)
        published = b"".join(parts)
        log = self._encode_log(mark, len(published), oldest_logged)
        self._start_next()
        return Encoded(log, published, encode_mark_command(self._names, mark), len(parts) + 2, mark, is_notice)

    def _encode_log(self, mark: Mark, size: int, oldest_logged: str) -> bytes:
        ident = b"%d-%d" % (mark.epoch, mark.sequence)
        trim = (b"MINID", b"~", oldest_logged.encode())
        words = (b"XADD", self._names.log.encode(), *trim, ident, b"mark", encode_mark(mark), b"batch", b"")
        return encode_command(*words).removesuffix(b"$0\r\n\r\n") + b"$%d\r\n" % size

    def _start_next(self) -> None:
        self.events = 0
        self._touched.clear()
        if self._route_count > _MAX_ROUTES:
            self._reset_routes()


def encode_mark_command(names: Names, mark: Mark) -> bytes:
    """The PUBLISH that closes a batch, or repeats the last mark as a heartbeat."""
    return encode_command(b"PUBLISH", names.mark.encode(), encode_mark(mark))


def _get_publish_head(channel: str) -> bytes:
    name = channel.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(name), name)
