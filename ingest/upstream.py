"""What upstream is to the rest of ingest, whoever plays it (ingest/polygon.py or ingest/rehearsal.py).

Statuses come in from the intake, demand from the watch; what goes out is a few actions.  The session says what a
status means, the reconcile what to ask for; this file joins them and keeps what operators read.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from ingest.awake import Awake
from ingest.open_gap import OpenGap
from ingest.reconcile import Reconcile
from ingest.session import Session, State, Step
from shared.gap import Gap
from shared.protocol import SUBSCRIPTION_LIMIT, Status, encode_action

_log = logging.getLogger(__name__)
_PLAN_EVERY_S: Final = 0.25
_ASSERTED_WITHIN_S: Final = 30.0
_IN_USE: Final = "another program uses this account's connection"

_decode_status = msgspec.json.Decoder(Status).decode


class Upstream:
    """One upstream, connected or not; `changed` is set whenever operators or gateways should hear of it.

    Before upstream is asked for anything, `on_wanted_types` hears which event types are wanted whole, and `on_doubled`
    which channels may then come twice.  `on_drop` gets what upstream is to give up, and answers with `keep` and `drop`.
    `on_gap` hears when what was wanted is held again after a loss; before the first event after it `on_gap_told` hears
    what clients are to be told.
    """

    def __init__(self, feed: str, key: str) -> None:
        self._key = key
        self.on_wanted_types: Callable[[frozenset[str]], None] = lambda _types: None
        self.on_drop: Callable[[list[str]], None] = lambda _channels: None
        self.on_doubled: Callable[[frozenset[str]], None] = lambda _channels: None
        self._send: Callable[[str], None] | None = None
        self.session = Session()
        self.reconcile = Reconcile(feed)
        self.changed = asyncio.Event()
        self.state = "connecting"
        self.since_s = time.time()
        self.drops = 0
        self.refusals = 0
        self.last_refusal = ""
        self.retry_floor_s = 0.0
        self.over = ""  # why upstream said that this connection is of no more use
        self.noticed_within_s = 90.0  # how long a connection that died silently may pass for live
        self._gap: OpenGap | None = None
        self._expected: tuple[int, str] | None = None  # from when, and the cause, of the gap of `expect_gap`
        self._awake = Awake(time.time_ns() // 1_000_000)
        self.get_last_event_us: Callable[[], int] = lambda: 0
        self.on_gap: Callable[[Gap], None] = lambda _gap: None
        self.on_gap_told: Callable[[Gap], None] = lambda _gap: None

    @property
    def held(self) -> set[str]:
        """What upstream confirmed."""
        return self.reconcile.held

    @property
    def refused(self) -> dict[str, str]:
        """What upstream refused, with its text."""
        return self.reconcile.refused

    @property
    def is_live(self) -> bool:
        """Whether upstream takes subscriptions."""
        return self.reconcile.is_live

    @property
    def wanted(self) -> frozenset[str]:
        """What gateways want of it."""
        return self.reconcile.wanted

    def _set_state(self, state: str) -> None:
        if state != self.state:
            _log.info("upstream: %s", state)
            self.state = state
            self.since_s = time.time()
            self.changed.set()

    def opened(self, send: Callable[[str], None]) -> None:
        """A connection is open; `send` takes one action and does not wait."""
        self._send = send
        self.session = Session()
        self.retry_floor_s = 0.0
        self.over = ""
        self._set_state("authenticating")

    def closed(self, why: str) -> None:
        """The connection is gone."""
        if self._send is not None:
            self.drops += 1
        if self.reconcile.is_live:
            self.open_gap(self._find_last_whole_ms(), why)
        if self._gap is not None:
            self._gap.go_on()
        self._send = None
        self.reconcile.disconnected()
        self._set_state(f"down: {why}")
        self.changed.set()

    def _find_last_whole_ms(self) -> int:
        """Up to when all came that upstream sent, if the connection that is live has ended now."""
        self._note_awake()
        live_from_ms = int(self.since_s * 1000)  # what is missing before was told
        # It may have died right after the last event that came, but not long before a ping was missed.
        if (stood_from_ms := self._awake.find_standstill(self._noticed_from_ms)) is not None:
            return max(live_from_ms, stood_from_ms)
        return max(live_from_ms, self.get_last_event_us() // 1000, self._noticed_from_ms)

    @property
    def _noticed_from_ms(self) -> int:
        return self._awake.now_ms - int(self.noticed_within_s * 1000)

    def find_whole_ms(self) -> int | None:
        """Up to when nothing is missing but what was told, whatever becomes of upstream or of us; None if unknown.

        Unlike the last event's time it is so far back that all before it has long been published.
        """
        if not self.is_live or self._gap is not None:
            return None
        return max(int(self.since_s * 1000), min(self._find_last_whole_ms(), self._noticed_from_ms))

    @property
    def missing_since_ms(self) -> int | None:
        """Since when events may be missing; None while none are."""
        return self._gap.from_ms if self._gap is not None else None

    def _note_awake(self) -> None:
        self._awake.note(time.time_ns() // 1_000_000, self._noticed_from_ms)

    def on_status(self, text: bytes) -> None:
        """Take one status of upstream's in."""
        try:
            status = _decode_status(text)
        except msgspec.DecodeError:
            _log.warning("upstream sent a status of an unknown shape")
            return
        self._act(self.session.receive(status), status)

    def _act(self, step: Step, status: Status) -> None:
        if step.authenticate and self._send is not None:
            self._send(encode_action("auth", self._key))
        elif step.became_live:
            self._open_expected_gap()
            self.reconcile.connected()
            self._set_state("live")
            self.plan()
        elif step.confirmed is not None:
            known = len(self.reconcile.refused)
            self.reconcile.confirmed(step.confirmed, time.monotonic())
            self._report_refused(known)
            self._go_on()
        elif step.refused is not None:
            self._on_refusal(step.refused)
        elif step.over is not None:
            self.retry_floor_s = step.retry_floor_s
            self.last_refusal = f"{status.status}: {step.over}"
            self.over = f"{status.status}: {_IN_USE}" if status.status == "max_connections" else self.last_refusal
            _log.error("upstream: %s", self.last_refusal)

    def _on_refusal(self, message: str) -> None:
        self.refusals += 1
        self.last_refusal = message
        known = len(self.reconcile.refused)
        names_one = not message.startswith(SUBSCRIPTION_LIMIT)
        if not self.reconcile.rejected(message, names_one, time.monotonic()):
            _log.warning("upstream refuses something that was not asked for: %s", message)
        self._report_refused(known)
        self._go_on()

    def _report_refused(self, known: int) -> None:
        """Tell the operator which channels were found refused since there were `known` of them."""
        refused = list(self.reconcile.refused.items())[known:]
        if refused:
            _log.warning("upstream refuses %d channels, such as %s: %s", len(refused), *refused[0])

    def _go_on(self) -> None:
        """Upstream answered: ask for the next channels if it has answered all."""
        if not self.reconcile.is_asking:
            self.plan()
            self.changed.set()

    @property
    def is_over(self) -> bool:
        """Whether upstream said that this connection is of no more use."""
        return self.session.state is State.OVER

    def set_wanted(self, wanted: Iterable[str]) -> None:
        """All of demand, as read from Redis."""
        self.reconcile.set_wanted(wanted, time.monotonic())
        self._serve_demand()

    def update_wanted(self, more: Iterable[str], less: Iterable[str]) -> None:
        """Edges of demand."""
        self.reconcile.update_wanted(more, less, time.monotonic())
        self._serve_demand()

    def _serve_demand(self) -> None:
        self.on_wanted_types(self.reconcile.wanted_types)
        self.plan()

    def plan(self) -> None:
        """Send upstream what demand and acks ask for now."""
        held = len(self.reconcile.held), len(self.reconcile.refused)
        plan = self.reconcile.plan(time.monotonic())
        self.on_doubled(self.reconcile.doubled)
        if self._gap is not None:
            self._foretell_gap(self._gap)
        self._act_on("subscribe", plan.subscribe)
        if plan.drop:
            self.on_drop(plan.drop)
        if held != (len(self.reconcile.held), len(self.reconcile.refused)):
            self.changed.set()
        if self._gap is not None:
            self._try_to_close_gap(self._gap)

    def open_gap(self, from_ms: int, cause: str, asserted_within_s: float = _ASSERTED_WITHIN_S) -> None:
        """Events may be missing since then, until all that is wanted is held again; an open gap stays as it is.

        If nothing is wanted when upstream is back, the gap waits for so many seconds for somebody whom it concerns.
        """
        if self._gap is None:
            self._gap = OpenGap(from_ms, cause, asserted_within_s)

    def expect_gap(self, from_ms: int, cause: str) -> None:
        """Open a gap then, unless upstream is live and was asked for all that is wanted.

        Asked is enough: an ack that is under way then is no reason to tell a new client of a gap.
        """
        self._expected = from_ms, cause

    def _open_expected_gap(self) -> None:
        """Who was connected before has asserted by then: without demand the gap is not kept open for anybody."""
        if self._expected is None or time.time() * 1000 < self._expected[0]:
            return
        if not self.reconcile.has_asked_all:
            self.open_gap(*self._expected, asserted_within_s=0.0)
        self._expected = None

    def _foretell_gap(self, gap: OpenGap) -> None:
        """It concerns all that was kept as upstream came back; what is wanted since then has no gap."""
        if not self.reconcile.is_live:
            return
        # After a Redis that came back empty gateways must assert again before it is known whom it concerns.
        gap.channels = gap.channels or self.reconcile.kept
        told = gap.foretell(self.reconcile.find_missing(gap.channels), time.time_ns() // 1_000_000)
        if told is not None:
            self.on_gap_told(told)

    def _try_to_close_gap(self, gap: OpenGap) -> None:
        """It ends when upstream holds all that it concerns."""
        if not gap.channels and time.time() - self.since_s < gap.asserted_within_s:
            return
        if not self.reconcile.is_live or self.reconcile.find_missing(gap.channels):
            return
        self._gap = None
        now_ms = time.time_ns() // 1_000_000
        ended = gap.end(now_ms)
        if ended.channels:
            _log.warning("gap of %d ms in %d channels: %s", now_ms - gap.from_ms, len(ended.channels), ended.cause)
            if not gap.is_told(now_ms):
                self.on_gap_told(ended)
            self.on_gap(ended)

    def _act_on(self, action: str, channels: list[str]) -> None:
        if channels and self._send is not None:
            self._send(encode_action(action, ",".join(channels)))

    def keep(self, channels: Iterable[str]) -> None:
        """These must not be given up: they are wanted, or that could not be found out."""
        self.reconcile.spare(channels)

    def drop(self, channels: Iterable[str]) -> None:
        """These may be given up, unless they are wanted again by now."""
        self._act_on("unsubscribe", self.reconcile.dropped(channels, time.monotonic()))
        self.changed.set()

    def tick(self) -> None:
        """A round of the clock: linger and silence may have run out."""
        self._note_awake()
        self._open_expected_gap()
        if self.reconcile.is_waiting:
            self.plan()

    async def run(self) -> None:
        """Tick for as long as the process runs."""
        while True:
            await asyncio.sleep(_PLAN_EVERY_S)
            self.tick()
