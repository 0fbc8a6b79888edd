"""Who gets which event: the heart of a gateway.  Pure, hot.

Theory.  Clients that get exactly the same channels form an *interest group*.  While a batch comes in, each bus message
is appended, without its brackets, to the list of every group that holds its channel; the mark *seals* the lists.  When
all that has arrived is taken in, each group's list becomes one WebSocket frame, built once, and every member gets the
same bytes.  So a client gets one frame a batch, or one for all the batches that arrived together when this process is
behind, which costs less just then; and the cost of an event does not depend on how many clients share a group.

What a client gets is the *cover* of what it holds (`T.*` beside `T.AAPL`: only the first).  A channel counts only
once it is *ready*: listened to on the bus and counted in Redis, and a wildcard only while the last mark named its event
type, that is, while ingest publishes it.  A client changes group between batches, never within one, so that nothing
is doubled or lost: at once if no message came since the last mark and the change only adds or only removes; else
(a changeover between a wildcard and exact channels) at the next mark, with which the old group is flushed.
"""

from collections.abc import Hashable, Iterable, Iterator, Set

from gateway.groups import Groups
from shared.batch import NOTHING, Mark
from shared.channels import ALL, expand, find_cover, get_event_type, get_wildcard, is_covered, is_wildcard
from shared.names import Names
from shared.notice import Addressed, Notice
from shared.protocol import Status


class Hub:
    """Members, what they hold, and the routes that follow from it."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._notices = names.notices.encode()
        self._holders: dict[str, dict[Hashable, None]] = {}
        self._held: dict[Hashable, set[str]] = {}
        self._groups = Groups(names)
        self._routes = self._groups.routes
        self._moves: dict[Hashable, None] = {}  # members that change group at the next mark
        self._late: dict[Hashable, set[str]] = {}  # what members get from elsewhere until they are let in
        self._ready: set[str] = set()
        self._alls: frozenset[str] = frozenset()
        self._in_batch = False
        self.last_mark = NOTHING  # the position
        self.live_epoch = 0  # of the last mark that came live, though we may not be there yet
        self.lost_epoch = 0  # the last one before epochs began anew, lower
        self.missed_batches = 0
        self.moves_made = 0
        self.seals = 0

    # Up: what members hold.

    def add(self, member: Hashable, channels: Iterable[str]) -> list[str]:
        """The member holds these as well; returns those that nobody here held before."""
        held = self._held.setdefault(member, set())
        edges = []
        for channel in channels:
            held.add(channel)
            holders = self._holders.get(channel)
            if holders is None:
                holders = self._holders[channel] = {}
                edges.append(channel)
            holders[member] = None
        self._regroup(member)
        return edges

    def remove(self, member: Hashable, channels: Iterable[str]) -> list[str]:
        """The member holds these no more; returns those that nobody here holds now."""
        held = self._held.get(member, set())
        edges = []
        for channel in channels:
            held.discard(channel)
            self._late.get(member, set()).discard(channel)
            holders = self._holders.get(channel, {})
            holders.pop(member, None)
            if not holders and self._holders.pop(channel, None) is not None:
                edges.append(channel)
        if member in self._held:
            self._regroup(member)
        return edges

    def drop(self, member: Hashable) -> list[str]:
        """The member is gone; returns the channels that nobody here holds now."""
        edges = self.remove(member, list(self._held.pop(member, ())))
        self._moves.pop(member, None)
        self._late.pop(member, None)
        self._groups.leave(member)
        return edges

    def is_wanted(self, channel: str) -> bool:
        """Whether some member holds the channel."""
        return channel in self._holders

    def count_members(self, channels: Iterable[str]) -> int:
        """How many members get events of at least one of these exact channels."""
        return self._groups.count_members(channels)

    def is_routed(self, bus_channel: str) -> bool:
        """Whether some group is served by this bus channel."""
        return bus_channel.encode() in self._routes

    def get_wanted(self) -> list[str]:
        """All channels that some member holds."""
        return list(self._holders)

    def set_ready(self, channels: Iterable[str]) -> None:
        """These channels are listened to and counted from now on."""
        members: dict[Hashable, None] = {}
        for channel in channels:
            self._ready.add(channel)
            members.update(self._holders.get(channel, {}))
        for member in members:
            self._regroup(member)

    def set_unready(self, channels: Iterable[str]) -> None:
        """These channels are no longer listened to; nobody here holds them."""
        self._ready.difference_update(channels)

    def has_joined(self, member: Hashable, channel: str) -> bool:
        """Whether the member gets every event of the channel from now on."""
        if channel not in self._ready:
            return False
        if channel in self._late.get(member, ()):
            return True
        channels = self._groups.get_channels(member)
        return all(is_covered(part, channels) for part in expand(self._names.feed, [channel]))

    # Late members: what they missed comes to them from the log (gateway/replay.py), and then they are let in.

    def hold_off(self, member: Hashable, channels: Iterable[str]) -> None:
        """The member, which is about to hold these, gets them from elsewhere until it is let in."""
        self._late.setdefault(member, set()).update(channels)

    def find_late(self, member: Hashable) -> Set[str]:
        """What the member holds and gets from elsewhere, as it is now: it changes with the hub."""
        return self._late.get(member, frozenset())

    def are_ready(self, channels: Iterable[str]) -> bool:
        """Whether all of these are listened to and counted, and the wildcards among them published."""
        parts = expand(self._names.feed, channels)
        return set(channels) <= self._ready and all(
            get_event_type(part) in self._alls for part in parts if is_wildcard(part)
        )

    def let_in(self, member: Hashable, channels: frozenset[str], position: Mark) -> bool:
        """The member has these up to the position; True if we are just there: it gets what follows from here."""
        if self._in_batch or self.last_mark[:2] != position[:2] or self._would_overtake(member, channels):
            return False
        admitted = channels & self._late[member]
        self._late[member] -= admitted
        self._move(member, self._get_target(member, admitted))
        return True

    def _would_overtake(self, member: Hashable, channels: frozenset[str]) -> bool:
        """Whether a wildcard among these has the events of a channel that is late apart from it."""
        types = {get_event_type(part) for part in expand(self._names.feed, channels) if is_wildcard(part)}
        others = self._late[member] - channels if types else ()
        return any(get_event_type(channel) in types for channel in others if not is_wildcard(channel))

    def _regroup(self, member: Hashable) -> None:
        now = self._groups.get_channels(member)
        target = self._get_target(member)
        if target == now:
            self._moves.pop(member, None)
        elif self._in_batch or not (target >= now or target <= now):
            self._moves[member] = None
        else:
            self._move(member, target)

    def _get_target(self, member: Hashable, admitted: frozenset[str] = frozenset()) -> frozenset[str]:
        late = self._late.get(member, set())
        now = self._groups.get_channels(member) | admitted
        channels = {channel for channel in self._held.get(member, ()) if channel in self._ready and channel not in late}
        if late:  # what is asked for under a wildcard that is late comes with it
            below = {c for c in channels | now if not late.isdisjoint((get_wildcard(c), ALL))}
            # ... and what comes already goes on until then, though it was given up: the replay leaves it out.
            channels = (channels - below) | (below & now)
        if ALL in channels:
            channels.remove(ALL)
            channels.update(find_cover(self._names.feed, [ALL]))
        # A wildcard waits for what is late of its type, which it would overtake; one that has come before goes on.
        waits = {get_event_type(part) for part in expand(self._names.feed, late)}
        waits -= {get_event_type(channel) for channel in now if is_wildcard(channel)}
        whole = self._alls - waits
        live = (c for c in channels if not is_wildcard(c) or get_event_type(c) in whole)
        return find_cover(self._names.feed, live)

    def _move(self, member: Hashable, target: frozenset[str]) -> None:
        self._moves.pop(member, None)
        self.moves_made += 1
        self._groups.move(member, target)

    # Down: what the bus brings.

    def collect(self, channel: bytes, payload: bytes) -> None:
        """One bus message: a JSON array of events of one channel, or a notice."""
        self._in_batch = True
        lists = self._routes.get(channel)
        if lists:
            part = payload[1:-1]
            for parts in lists:
                parts.append(part)
        elif channel == self._notices:
            self._groups.collect_notice(payload)

    def tell(self, notice: Notice) -> None:
        """Let whom it concerns know after all that was sealed."""
        self._groups.tell(notice)

    def address_late(self, notice: Notice) -> Iterator[tuple[Hashable, Status]]:
        """The same for who gets what it concerns from elsewhere."""
        addressed = Addressed(notice)
        for member, late in self._late.items():
            status = addressed.find_status(find_cover(self._names.feed, late))
            if status is not None:
                yield member, status

    def is_next(self, mark: Mark) -> bool:
        """Whether nothing is missing between the last batch and this mark, and nothing foreign came."""
        last = self.last_mark
        if mark.epoch != last.epoch:
            return False  # of a lower one: an ingest that lost its place, whose messages are among ours now
        return mark.sequence <= last.sequence or (mark.sequence == last.sequence + 1 and mark.events > 0)

    def seal(self, mark: Mark) -> bool:
        """Close the batch; its events wait for the flush.  True if that must come before anything else is collected.

        A batch that was closed before, sent again because Redis died before it answered, is discarded.
        """
        if mark[:2] < self.last_mark[:2]:
            self.discard()
            return bool(self._moves)
        if self._advance(mark) and mark.events:
            self._groups.seal()
        else:
            self.discard()
        self._in_batch = False
        self.seals += 1
        if mark.alls != self._alls:
            changed, self._alls = self._alls ^ mark.alls, mark.alls
            for channel in (*(f"{event_type}.*" for event_type in changed), ALL):
                self._moves.update(self._holders.get(channel, {}))
        return bool(self._moves)

    def flush(self) -> Iterator[tuple[bytes, Iterable[Hashable]]]:
        """One frame for each group that has something sealed, with its members; then whoever waited changes group."""
        yield from self._groups.flush()
        if not self._in_batch:
            self._change_groups()

    def _advance(self, mark: Mark) -> bool:
        """Go on to the mark if it is later than the last one; count what was missed in between."""
        last = self.last_mark
        if last.epoch == mark.epoch:
            if mark.sequence <= last.sequence:
                if mark.sequence == last.sequence and not mark.events and mark.received_us > last.received_us:
                    self.last_mark = last._replace(received_us=mark.received_us)  # all of that time has come
                return False
            closes = 1 if mark.events else 0  # a heartbeat closes nothing: the batch it repeats was missed too
            self.missed_batches += mark.sequence - last.sequence - closes
        self.last_mark = mark
        return True

    def begin(self, newest: Mark) -> None:
        """What comes after `newest` is for members; called once, before there are any."""
        self.last_mark = newest

    def begin_anew(self, newest: Mark) -> None:
        """What comes after `newest` is for members, though its epoch is lower: those above it are over."""
        self.lost_epoch = self.last_mark.epoch
        self.last_mark = newest

    def discard(self) -> None:
        """Forget what came since the last mark."""
        self._groups.discard()
        self._in_batch = False

    def _change_groups(self) -> None:
        for member in list(self._moves):
            target = self._get_target(member)
            if target != self._groups.get_channels(member):
                self._move(member, target)
        self._moves.clear()
