"""Every name in Redis.  Pure.

Key schema (F is the feed; braces are literal and keep a feed's keys in one Redis Cluster slot):

| name                               | kind            | holds                                                         |
|------------------------------------|-----------------|---------------------------------------------------------------|
| EV.SYM (stocks), F:EV.SYM (others) | pub/sub channel | a JSON array of events, byte for byte                         |
| polygon:{F}:all:EV                 | pub/sub channel | every event of a type; only while somebody holds EV.*         |
| polygon:{F}:mark                   | pub/sub channel | batch boundaries and the heartbeat (shared/batch.py)          |
| polygon:{F}:demand                 | pub/sub channel | JSON list of channels whose refcount left or reached zero     |
| polygon:{F}:held                   | set             | channels that upstream confirmed                              |
| polygon:{F}:held                   | pub/sub channel | a notice that this set changed (shared/held.py)               |
| polygon:{F}:refused                | hash            | channel -> upstream's text; forgotten after a while           |
| polygon:{F}:refcount               | hash            | channel -> number of gateways that want it; zero is absent    |
| polygon:{F}:gateways               | set             | ids of gateways that joined and were not swept yet            |
| polygon:{F}:gateway:ID             | hash, expires   | the lease of one gateway, and its statistics                  |
| polygon:{F}:gateway:ID:channels    | set             | what it counts for in the refcount                            |
| polygon:{F}:log                    | stream          | the last seconds of batches; entry id = epoch-sequence        |
| polygon:{F}:frames                 | stream, expires | the last seconds of frames as received (ingest/tape.py)       |
| polygon:{F}:recording              | key, expires    | while it is there, ingest writes that stream                  |
| polygon:{F}:notices                | pub/sub channel | told to clients between their events (shared/notice.py)       |
| polygon:{F}:gaps                   | stream          | the last gaps (shared/gap.py), newest last                    |
| polygon:{F}:resume                 | pub/sub channel | a client took a name over (gateway/resume.py)                 |
| polygon:{F}:resumed                | sorted set      | the names in use, by when they last came or went              |
| polygon:{F}:resume:NAME            | key, expires    | what the client of that name holds and has got                |
| polygon:{F}:ingest                 | key, expires    | which ingest has the upstream slot (ingest/slot.py)           |
| polygon:{F}:market                 | string          | where the simulated market was last (ingest/simulator)        |
| polygon:{F}:upstream               | hash            | state, since, holder, epoch, counters, what is left to others |
| polygon:{F}:control                | pub/sub channel | a request to ingest (shared/control.py)                       |
| polygon:{F}:control:ID             | list, expires   | the answer to it                                              |
| polygon:{F}:census                 | pub/sub channel | how many clients hold one of these? (shared/census.py)        |
| polygon:{F}:census:ID              | list, expires   | each gateway's answer to it                                   |
"""

from shared.channels import get_event_type, is_wildcard


class Names:
    """The names of one feed."""

    def __init__(self, feed: str) -> None:
        self.feed = feed
        base = f"polygon:{{{feed}}}"
        self.mark = f"{base}:mark"
        self.demand = f"{base}:demand"
        self.held = f"{base}:held"
        self.refused = f"{base}:refused"
        self.refcount = f"{base}:refcount"
        self.gateways = f"{base}:gateways"
        self.log = f"{base}:log"
        self.frames = f"{base}:frames"
        self.recording = f"{base}:recording"
        self.notices = f"{base}:notices"
        self.gaps = f"{base}:gaps"
        self.ingest = f"{base}:ingest"
        self.market = f"{base}:market"
        self.resume = f"{base}:resume"
        self.resumed = f"{base}:resumed"
        self.upstream = f"{base}:upstream"
        self.control = f"{base}:control"
        self.census = f"{base}:census"
        self._all = f"{base}:all:"
        self._gateway = f"{base}:gateway:"
        self._prefix = "" if feed == "stocks" else f"{feed}:"

    def get_bus_channel(self, channel: str) -> str:
        """Where the events of an exact channel or of `EV.*` are published."""
        if is_wildcard(channel):
            return self._all + get_event_type(channel)
        return self.get_exact_bus_channel(channel)

    def get_exact_bus_channel(self, channel: str) -> str:
        """Where the events of one symbol are published, even if that symbol should look like a wildcard."""
        return self._prefix + channel

    def find_type(self, bus_channel: bytes) -> str | None:
        """The event type of a bus channel of one symbol; None if it is none of this feed's."""
        name = bus_channel.decode()
        if not name.startswith(self._prefix) or name.startswith("polygon:"):
            return None
        return get_event_type(name.removeprefix(self._prefix))

    def get_resume(self, name: str) -> str:
        """The record of one client that can resume."""
        return f"{self.resume}:{name}"

    def get_control_reply(self, request_id: str) -> str:
        """Where the answer to one request is left."""
        return f"{self.control}:{request_id}"

    def get_census_reply(self, question_id: str) -> str:
        """Where gateways leave their answers to one question."""
        return f"{self.census}:{question_id}"

    def get_lease(self, gateway_id: str) -> str:
        """The lease of one gateway."""
        return self._gateway + gateway_id

    def get_gateway_channels(self, gateway_id: str) -> str:
        """The set of channels that one gateway counts for."""
        return f"{self._gateway}{gateway_id}:channels"
