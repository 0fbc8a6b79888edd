"""The simulation as upstream: greets, authenticates and acks.  (ingest/rehearsal.py replaces it on merge.)"""

import asyncio
from collections.abc import Callable

from ingest.simulator.feed import Simulation
from ingest.upstream import Upstream
from shared.protocol import AUTH_SUCCESS, CONNECTED, encode_statuses, parse_action, subscribed, unsubscribed


class Simulator:
    """Feeds the intake; what is subscribed is what the simulation emits."""

    def __init__(self, upstream: Upstream, take: Callable[[bytes], None], simulation: Simulation) -> None:
        self._upstream = upstream
        self._take = take
        self._simulation = simulation
        self._held: set[str] = set()

    async def run(self) -> None:
        """Greet, then trade for as long as the process runs."""
        self._upstream.opened(self._receive)
        self._reply(encode_statuses([CONNECTED]))
        await self._simulation.run(self._take)

    def _reply(self, frames: list[bytes]) -> None:
        # Not from within the call that sent the action: upstream answers later, too.
        loop = asyncio.get_running_loop()
        for frame in frames:
            loop.call_soon(self._take, frame)

    def _receive(self, text: str) -> None:
        action = parse_action(text)
        if action.action == "auth":
            self._reply(encode_statuses([AUTH_SUCCESS]))
            return
        channels = action.params.split(",")
        if action.action == "subscribe":
            self._held.update(channels)
            self._reply(encode_statuses(subscribed(channel) for channel in channels))
        else:
            self._held.difference_update(channels)
            self._reply(encode_statuses(unsubscribed(channel) for channel in channels))
        self._simulation.set_held(frozenset(self._held))
