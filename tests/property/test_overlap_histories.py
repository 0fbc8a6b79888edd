"""`T.*`, `*` and exact channels in any order of arrival and departure, from upstream's wire to the members of two hubs.

Promised: whoever was served a channel (told to ingest, held upstream, joined in the hub) gets each of its events
exactly once, for as long as it holds the channel, through every changeover; nobody gets one twice, or one that it never
held; and what upstream itself says twice, outside of a changeover, comes twice.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ingest.reconcile import CONFIRM_S, DROPPED_S, LINGER_S
from tests.fakes.session import Script
from tests.property.clock import Clock
from tests.property.examples import TIMEOUT_S, histories
from tests.property.model import cover_of, wildcard_of
from tests.property.pipeline import Gateway, Pipeline

EXACT = ("T.AAPL", "T.MSFT", "Q.AAPL")
CHANNELS = (*EXACT, "T.*", "Q.*", "*")
MEMBERS = ("a", "b", "c", "d")  # a and b on the first gateway, c and d on the second
MEMBER = st.sampled_from(MEMBERS)
SOME = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True)
COUNT = st.sampled_from([1, 2, 4, 1000])


@dataclass
class Event:
    """One event: how often upstream itself says it, and who must and may get it."""

    ident: int
    channel: str
    times: int
    must: set[str] = field(default_factory=set)
    may: set[str] = field(default_factory=set)


def carriers_of(channel: str) -> set[str]:
    """The channels with which the events of an exact one come."""
    return {channel, wildcard_of(channel), "*"}


class OverlapHistories(RuleBasedStateMachine):
    """`runner` and `clock` are set by the test below."""

    runner: ClassVar[asyncio.Runner]
    clock: ClassVar[Clock]

    @initialize(twice=st.booleans(), silent=st.sets(st.sampled_from(CHANNELS[:-1]), max_size=2))
    def begin(self, twice: bool, silent: set[str]) -> None:
        self.twice = twice
        self.pipeline = self.runner.run(self._make(Script(wildcard_twice=twice, silent=silent)))
        self.holds: dict[str, set[str]] = {member: set() for member in MEMBERS}
        self.left: dict[str, dict[str, int]] = {member: {} for member in MEMBERS}  # channel -> marks seen by then
        self.served: dict[str, set[str]] = {member: set() for member in MEMBERS}
        self.events: list[Event] = []  # since everything last had arrived
        self.sent = 0
        self.late_copies: list[bytes] = []
        self.changed_s = float("-inf")  # when a changeover was last seen to be under way

    async def _make(self, script: Script) -> Pipeline:
        return Pipeline(self.clock, script, 2)

    def _gateway(self, member: str) -> Gateway:
        return self.pipeline.gateways[MEMBERS.index(member) // 2]

    # Members and their gateways.

    @rule(member=MEMBER, channels=SOME)
    def join(self, member: str, channels: list[str]) -> None:
        self._gateway(member).hub.add(member, channels)
        self.holds[member].update(channels)
        self._note()

    @rule(member=MEMBER, channels=SOME)
    def leave(self, member: str, channels: list[str]) -> None:
        self._gateway(member).remove(member, channels)
        self.left[member].update(dict.fromkeys(self.holds[member] & set(channels), self._gateway(member).marks))
        self.holds[member].difference_update(channels)
        self.served[member].difference_update(channels)
        for event in self.events:
            if not self.served[member] & carriers_of(event.channel):
                event.must.discard(member)

    @rule(member=MEMBER, channels=SOME)
    def change(self, member: str, channels: list[str]) -> None:
        """Take up the new ones, and then leave all others."""
        self.join(member, channels)
        self.serve()
        self.leave(member, [channel for channel in CHANNELS if channel not in channels])

    @rule()
    def serve(self) -> None:
        """Everything that is wanted is listened to, counted, announced, and then ready."""
        taken = [gateway.take_up() for gateway in self.pipeline.gateways]
        self.pipeline.tell()
        for gateway, channels in zip(self.pipeline.gateways, taken, strict=True):
            gateway.hub.set_ready(channels)
        self._note()

    @rule()
    def let_go(self) -> None:
        """After a linger in which a mark came."""
        for gateway in self.pipeline.gateways:
            gateway.let_go()
        self.pipeline.tell()

    # What is on its way.

    @rule(count=COUNT)
    def upstream_reads(self, count: int) -> None:
        self.pipeline.upstream_reads(count)
        self._note()

    @rule(count=COUNT)
    def ingest_reads(self, count: int) -> None:
        self.pipeline.ingest_reads(count)
        self._note()

    @rule()
    def publish(self) -> None:
        self.pipeline.intake.flush()

    @rule(count=COUNT)
    def bus_runs(self, count: int) -> None:
        self.pipeline.bus.run(count)

    @rule(which=st.integers(0, 1), count=COUNT)
    def gateway_reads(self, which: int, count: int) -> None:
        self.pipeline.gateways[which].read(count)
        self._note()

    @rule(
        channels=st.lists(st.sampled_from(EXACT), min_size=1, max_size=3), own_double=st.booleans(), late=st.booleans()
    )
    def upstream_sends(self, channels: list[str], own_double: bool, late: bool) -> None:
        """One frame; the second copy of an event under a changeover may come with the next one."""
        copies, self.late_copies = self.late_copies, []
        now = []
        for channel in channels:
            count = self.pipeline.wire.session.copies(channel)
            if (event := self._make_event(channel, 2 if own_double else 1, count)) is None:
                continue
            body = self._encode(event)
            now += [body] * event.times
            (copies if not late else self.late_copies).extend([body] * ((count - 1) * event.times))
        if now + copies:
            self.pipeline.frames.append(b"[" + b",".join(now + copies) + b"]")

    def _make_event(self, channel: str, times: int, count: int) -> Event | None:
        must = {m for m in MEMBERS if self.served[m] & carriers_of(channel)}
        self.sent += 1
        event = Event(self.sent, channel, times, must, {m for m in MEMBERS if self._holds(m, channel)})
        self.events.append(event)
        if count == 0:
            assert not must, f"upstream does not send {channel}, which {must} were served"
            return None
        return event

    @staticmethod
    def _encode(event: Event) -> bytes:
        event_type, _, symbol = event.channel.partition(".")
        return json.dumps({"ev": event_type, "sym": symbol, "i": event.ident}, separators=(",", ":")).encode()

    def _holds(self, member: str, channel: str) -> bool:
        """Or has left it since the last mark: a changeover waits for the next one."""
        marks = self._gateway(member).marks
        left = {channel for channel, since in self.left[member].items() if since == marks}
        return bool((self.holds[member] | left) & carriers_of(channel))

    # Time.

    @rule(span_s=st.sampled_from([0.5, CONFIRM_S, DROPPED_S, LINGER_S]))
    def wait(self, span_s: float) -> None:
        self.settle()
        self.clock.now_s += span_s
        self.pipeline.upstream.plan()
        self.pipeline.beat()
        self._note()

    @rule()
    def settle(self) -> None:
        """What is on its way arrives; then each member must have what it was due."""
        if self.late_copies:
            self.pipeline.frames.append(b"[" + b",".join(self.late_copies) + b"]")
            self.late_copies = []
        self.pipeline.settle()
        self._note()
        for event in self.events:
            self._judge(event)
        self.events.clear()
        for gateway in self.pipeline.gateways:
            gateway.got.clear()

    def teardown(self) -> None:
        if hasattr(self, "pipeline"):
            self.pipeline.intake.flush()

    def _note(self) -> None:
        """Look who holds what by now, and who is served by now."""
        for member in MEMBERS:
            hub = self._gateway(member).hub
            for channel in self.holds[member] - self.served[member]:
                if hub.has_joined(member, channel) and self.pipeline.is_acked(channel):
                    self.served[member].add(channel)
            for event in self.events:
                if self._holds(member, event.channel):
                    event.may.add(member)
        if self.pipeline.wire.maybe_double or self.pipeline.actions:
            self.changed_s = self.clock.now_s

    # What is promised.

    def _judge(self, event: Event) -> None:
        for member in MEMBERS:
            count = self._gateway(member).got.get(member, []).count(event.ident)
            least, most = 0, 0
            if member in event.may:
                most = event.times
            if member in event.must:
                least = 1 if self._is_changing() else event.times
            assert least <= count <= most, f"{member} got {event} {count} times"

    def _is_changing(self) -> bool:
        return self.clock.now_s - self.changed_s <= DROPPED_S

    @invariant()
    def nobody_gets_an_event_more_often_than_upstream_means_it(self) -> None:
        for event in self.events:
            for member in MEMBERS:
                count = self._gateway(member).got.get(member, []).count(event.ident)
                assert count <= event.times, f"{member} got {event} {count} times"

    @rule()
    def after_quiet_time_upstream_holds_the_least_set(self) -> None:
        self.serve()
        self.wait(1.0)
        self.settle()
        self.let_go()
        for span_s in (LINGER_S, *[CONFIRM_S] * (len(CHANNELS) + 2)):
            self.wait(span_s)
        self.settle()
        wanted = set().union(*self.holds.values())
        assert self.pipeline.wire.held == cover_of(wanted)
        for member in MEMBERS:
            assert self.served[member] == self.holds[member], f"{member} is not served"


@pytest.mark.timeout(TIMEOUT_S)
def test_each_event_comes_once_whatever_overlaps(runner: asyncio.Runner, clock: Clock) -> None:
    OverlapHistories.runner, OverlapHistories.clock = runner, clock
    run_state_machine_as_test(OverlapHistories, settings=histories(150, 50))
