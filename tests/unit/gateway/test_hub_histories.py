"""The hub under random histories, beside a model that is too simple to be wrong.

The machine plays ingest (batches on exact channels, and whole for the types in `alls`), the interest (listen, set
ready, let go) and the clients.  Promised: whoever had joined a channel before a batch began, and held it until its
mark, gets each of its events exactly once; nobody ever gets an event twice, out of order, or one that it did not hold.
"""

import json
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.hub import Hub
from shared.batch import Mark
from shared.channels import ALL, EVENT_TYPES, find_cover
from shared.names import Names
from tests.property.examples import FACTOR
from tests.unit.gateway.frames import close_batch, read_events

NAMES = Names("stocks")
MEMBERS = ("a", "b", "c")
EXACT = ("T.AAPL", "T.MSFT", "Q.AAPL")
CHANNELS = (*EXACT, "T.*", "Q.*", ALL)
EVERY_TYPE = frozenset(EVENT_TYPES["stocks"])
ALLS = st.sampled_from([frozenset(), frozenset("T"), frozenset("Q"), frozenset("TQ"), EVERY_TYPE])
EVENTS = st.lists(st.sampled_from(EXACT), min_size=1, max_size=5)  # the channel of each
SOME_CHANNELS = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=2)


class Message(NamedTuple):
    bus_channel: str
    payload: bytes


def get_bus_channels(channel: str) -> set[str]:
    return {NAMES.get_bus_channel(part) for part in find_cover("stocks", [channel])}


def get_carriers(channel: str) -> tuple[str, str, str]:
    """The channels that an exact channel's events also come with."""
    return channel, f"{channel.split('.')[0]}.*", ALL


class HubHistories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(NAMES)
        self.held: dict[str, set[str]] = {member: set() for member in MEMBERS}
        self.listened: set[str] = set()
        self.ready: set[str] = set()
        self.alls: frozenset[str] = frozenset()
        self.sequence = 0
        self.next_event = 1
        self.sent: list[tuple[Mark, list[Message]]] = []  # what ingest may send again
        self.got: dict[str, list[int]] = {member: [] for member in MEMBERS}
        self.channel_of: dict[int, str] = {}
        # The batch under way; None between batches.
        self.queue: list[Message] | None = None
        self.batch: list[Message] = []
        self.events: list[int] = []
        self.joined: dict[str, set[str]] = {}  # joined before the batch began, and held ever since
        # Since the last mark: what was held at some time, and what nobody holds any more.
        self.ever_held: dict[str, set[str]] = {}
        self.given_up: set[str] = set()

    @initialize(held=st.lists(SOME_CHANNELS, min_size=len(MEMBERS), max_size=len(MEMBERS)), alls=ALLS)
    def begin(self, held: list[list[str]], alls: frozenset[str]) -> None:
        """Histories that begin with nothing at all mostly end with nothing at all."""
        for member, channels in zip(MEMBERS, held, strict=True):
            self.add(member, channels, is_ready=True)
        self.publish_whole(alls)

    # What members do.

    @rule(member=st.sampled_from(MEMBERS), channels=SOME_CHANNELS, is_ready=st.booleans())
    def add(self, member: str, channels: list[str], is_ready: bool) -> None:
        new = {channel for channel in channels if not self._is_wanted(channel)}
        edges = self.hub.add(member, channels)
        assert set(edges) == new
        assert len(edges) == len(new)
        self.held[member].update(channels)
        self.ever_held.setdefault(member, set()).update(channels)
        if is_ready:
            self.take_up(channels, is_ready=True)

    @rule(member=st.sampled_from(MEMBERS), channels=SOME_CHANNELS)
    def remove(self, member: str, channels: list[str]) -> None:
        wanted = {channel for channel in channels if self._is_wanted(channel)}
        edges = self.hub.remove(member, channels)
        self.held[member].difference_update(channels)
        self.joined.get(member, set()).difference_update(channels)
        self.given_up.update(edges)
        assert set(edges) == {channel for channel in wanted if not self._is_wanted(channel)}
        assert len(edges) == len(set(edges))

    @rule(member=st.sampled_from(MEMBERS))
    def drop(self, member: str) -> None:
        held = set(self.held[member])
        edges = self.hub.drop(member)
        self.held[member].clear()
        self.joined.pop(member, None)
        self.ever_held.pop(member, None)
        self.given_up.update(edges)
        assert set(edges) == {channel for channel in held if not self._is_wanted(channel)}
        assert not any(self.hub.has_joined(member, channel) for channel in CHANNELS)

    def _is_wanted(self, channel: str) -> bool:
        return any(channel in held for held in self.held.values())

    # What the interest does.

    @rule(channels=SOME_CHANNELS, is_ready=st.booleans())
    def take_up(self, channels: list[str], is_ready: bool) -> None:
        taken = [channel for channel in channels if self._is_wanted(channel)]
        self.listened.update(taken)
        if is_ready:
            self.ready.update(taken)
            self.hub.set_ready(taken)

    @rule(channel=st.sampled_from(CHANNELS))
    def let_go(self, channel: str) -> None:
        """The interest lingers until a mark has come: before it a member may still be served by what it gave up."""
        if not self._is_wanted(channel) and channel not in self.given_up:
            self.hub.set_unready([channel])
            self.ready.discard(channel)
            self.listened.discard(channel)

    # What ingest does.

    @precondition(lambda self: self.queue is None)
    @rule(alls=ALLS)
    def publish_whole(self, alls: frozenset[str]) -> None:
        self.alls = alls
        self._close(Mark(7, self.sequence, 1, 0, alls))

    def _ensure_batch(self, channels: list[str]) -> list[Message]:
        if self.queue is not None:
            return self.queue
        self.joined = {
            member: {channel for channel in held if self.hub.has_joined(member, channel)}
            for member, held in self.held.items()
        }
        self.events = []
        exact: dict[str, list[int]] = {}
        for channel in channels:
            number = self.next_event
            self.next_event += 1
            self.channel_of[number] = channel
            self.events.append(number)
            for target in get_carriers(channel)[:1] if channel[0] not in self.alls else get_carriers(channel)[:2]:
                exact.setdefault(target, []).append(number)
        order = sorted(exact, key=lambda channel: channel.endswith("*"))
        self.queue = [self._make_message(channel, exact[channel]) for channel in order]
        self.batch = list(self.queue)
        return self.queue

    def _make_message(self, channel: str, numbers: list[int]) -> Message:
        events = [{"ev": channel[0], "n": number} for number in numbers]
        return Message(NAMES.get_bus_channel(channel), json.dumps(events).encode())

    @rule(channels=EVENTS, count=st.integers(1, 3))
    def deliver(self, channels: list[str], count: int) -> None:
        queue = self._ensure_batch(channels)
        for message in queue[:count]:
            self._deliver(message)
        del queue[:count]

    def _deliver(self, message: Message) -> None:
        if any(message.bus_channel in get_bus_channels(channel) for channel in self.listened):
            self.hub.collect(message.bus_channel.encode(), message.payload)

    @rule(channels=EVENTS)
    def mark(self, channels: list[str]) -> None:
        self.deliver(channels, len(self._ensure_batch(channels)))
        before = {member: len(self.got[member]) for member in MEMBERS}
        self.sequence += 1
        self.queue = None
        mark = Mark(7, self.sequence, 1, len(self.events), self.alls)
        self.sent = [*self.sent[-3:], (mark, self.batch)]
        ever_held = self.ever_held
        self._close(mark)
        for member in MEMBERS:
            fresh = self.got[member][before[member] :]
            owed = [n for n in self.events if not self.joined.get(member, set()).isdisjoint(self._carriers_of(n))]
            assert set(owed) <= set(fresh), "an event was lost"
            held = ever_held.get(member, set())
            assert all(not held.isdisjoint(self._carriers_of(n)) for n in fresh), "an event that was not held"

    def _carriers_of(self, number: int) -> tuple[str, str, str]:
        return get_carriers(self.channel_of[number])

    def _close(self, mark: Mark) -> None:
        served: set[object] = set()
        for frame, members in close_batch(self.hub, mark):
            numbers = [event["n"] for event in read_events(frame)]
            names = {str(member) for member in members}
            assert names
            assert not names & served, "two frames of one batch"
            served |= names
            for name in names:
                self.got[name] += numbers
        self.ever_held = {member: set(held) for member, held in self.held.items()}
        self.given_up = set()

    # Faults.

    @rule(skipped=st.integers(0, 3))
    def lose_the_bus(self, skipped: int) -> None:
        """The connection drops and comes back, perhaps in the middle of the same batch."""
        self.hub.discard()
        self.joined = {}
        if self.queue is not None:
            del self.queue[:skipped]

    @precondition(lambda self: self.queue is None and self.sent)
    @rule(count=st.integers(1, 4))
    def send_again(self, count: int) -> None:
        """Ingest lost its connection with some batches unanswered; the last word is a mark that is up to date."""
        before = {member: list(self.got[member]) for member in MEMBERS}
        for mark, batch in self.sent[-count:]:
            for message in batch:
                self._deliver(message)
            self._close(mark)
        self._close(Mark(7, self.sequence, 1, 0, self.alls))
        assert self.got == before

    # What always holds.

    @invariant()
    def nothing_comes_twice_or_out_of_order(self) -> None:
        for numbers in self.got.values():
            assert len(numbers) == len(set(numbers)), "an event came twice"
            for channel in EXACT:
                of_channel = [number for number in numbers if self.channel_of[number] == channel]
                assert of_channel == sorted(of_channel)

    @invariant()
    def the_hub_wants_what_its_members_hold(self) -> None:
        wanted = set().union(*self.held.values())
        assert set(self.hub.get_wanted()) == wanted
        assert all(self.hub.is_wanted(channel) == (channel in wanted) for channel in CHANNELS)

    @invariant()
    def nobody_has_joined_what_is_not_ready_or_not_published(self) -> None:
        for member, held in self.held.items():
            for channel in held:
                if self.hub.has_joined(member, channel):
                    assert channel in self.ready
                    assert not channel.endswith(".*") or channel[0] in self.alls

    def teardown(self) -> None:
        """Nothing is left of members that are gone, and every member that stays gets its events in the end."""
        for member in MEMBERS:
            self.hub.drop(member)
        assert self.hub.get_wanted() == []
        self.hub.collect(b"T.AAPL", b'[{"ev":"T","n":0}]')
        assert list(close_batch(self.hub, Mark(9, 1, 1, 1, frozenset()))) == []


class HubSettles(HubHistories):
    """The same, and after every history two marks are enough for everyone to have joined all that is ready."""

    def teardown(self) -> None:
        if self.queue is not None:
            self.mark([])
        self.alls = EVERY_TYPE
        self.take_up(list(CHANNELS), is_ready=True)
        for _ in range(2):
            self._close(Mark(7, self.sequence, 1, 0, self.alls))
        for member, held in self.held.items():
            for channel in held:
                assert self.hub.has_joined(member, channel)
        super().teardown()


TestHubHistories = HubHistories.TestCase
TestHubHistories.settings = settings(deadline=None, max_examples=200 * FACTOR, stateful_step_count=40)
TestHubSettles = HubSettles.TestCase
TestHubSettles.settings = settings(deadline=None, max_examples=60 * FACTOR, stateful_step_count=30)
