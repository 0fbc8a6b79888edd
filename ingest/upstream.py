"""What upstream is to the rest of ingest, whoever plays it (ingest/polygon.py or ingest/simulator.py).

Statuses come in from the intake, demand from the watch; what goes out is a few actions.  The session says what a
status means, the reconcile what to ask for; this file joins them and keeps what operators read.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from ingest.reconcile import Reconcile
from ingest.session import Session, State, Step
from shared.protocol import Status, encode_action

_log = logging.getLogger(__name__)
_ACTION_CHANNELS: Final = 1000  # channels in one subscribe: at most 65 KB, upstream takes 1 MB (PROTOCOL c.1)
_PLAN_EVERY_S: Final = 0.25

_decode_status = msgspec.json.Decoder(Status).decode


class Upstream:
    """One upstream, connected or not; `changed` is set whenever operators or gateways should hear of it.

    `on_wanted_types` hears which event types are wanted whole before upstream is asked for any of them.
    """

    def __init__(self, feed: str, key: str) -> None:
        self._key = key
        self.on_wanted_types: Callable[[frozenset[str]], None] = lambda _types: None
        self._send: Callable[[str], None] | None = None
        self.session = Session()
        self.reconcile = Reconcile(feed)
        self.changed = asyncio.Event()
        self.state = "connecting"
        self.since_s = time.time()
        self.drops = 0
        self.refusals = 0
        self.retry_floor_s = 0.0

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
        self._set_state("authenticating")

    def closed(self, why: str) -> None:
        """The connection is gone."""
        if self._send is not None:
            self.drops += 1
        self._send = None
        self.reconcile.disconnected()
        self._set_state(f"down: {why}")
        self.changed.set()

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
            self.reconcile.connected()
            self._set_state("live")
            self.plan()
        elif step.confirmed is not None:
            self.reconcile.confirmed(step.confirmed)
            self.changed.set()
        elif step.refused is not None:
            self.refusals += 1
            _log.warning("upstream refuses a subscription: %s", step.refused)
        elif step.over is not None:
            self.retry_floor_s = step.retry_floor_s
            _log.error("upstream: %s: %s", status.status, step.over)

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
        held_before = len(self.reconcile.held)
        plan = self.reconcile.plan(time.monotonic())
        for action, channels in (("subscribe", plan.subscribe), ("unsubscribe", plan.unsubscribe)):
            for start in range(0, len(channels), _ACTION_CHANNELS):
                if self._send is not None:
                    self._send(encode_action(action, ",".join(channels[start : start + _ACTION_CHANNELS])))
        if held_before != len(self.reconcile.held):
            self.changed.set()

    async def run(self) -> None:
        """Let linger and silence run out."""
        while True:
            await asyncio.sleep(_PLAN_EVERY_S)
            if self.reconcile.is_waiting:
                self.plan()
