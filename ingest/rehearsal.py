"""Plays upstream with test data: greets, authenticates and acks as Polygon does, and lets a player play the events.

What plays can be switched at any time: upstream stays connected and subscribed, so clients notice nothing but other
prices.  The programme is what plays as a rule (the simulated market with a scenario, or a recording); a guest is a
recording that an operator plays for a while, after which the programme goes on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from ingest.player import Player, Replayer
from ingest.players import Players, Take, Unplayable, find_scenario, is_recording
from ingest.simulator.scenario import Scenario
from ingest.switches import Switches
from ingest.upstream import Upstream
from shared.config import Config
from shared.indicator import Indicator
from shared.protocol import (
    AUTH_SUCCESS,
    CONNECTED,
    Status,
    encode_status,
    parse_action,
    subscribed,
    unsubscribed,
)

_log = logging.getLogger(__name__)
_NOBODY: Final[frozenset[str]] = frozenset()


class Part(NamedTuple):
    """A player, its name for clients, where it is from, and the scenario that it plays or the replayer that it is."""

    player: Player
    name: str
    source: str  # as TEST_SCENARIO has it
    scenario: Scenario | None = None
    replayer: Replayer | None = None


class Guest(NamedTuple):
    """A recording that is played for a while; `id` is the operator's word for this playing of it."""

    id: str
    part: Part


class Rehearsal:
    """Feeds frames of test data to `take` for as long as the process runs; needs a running event loop.

    Raises Unplayable (ingest/players.py) if the configuration names what cannot be played.
    """

    def __init__(self, upstream: Upstream, take: Callable[[bytes], None], players: Players, config: Config) -> None:
        self._upstream = upstream
        self._take = take
        self._held: set[str] = set()
        self._switched = asyncio.Event()
        self._players = players
        self._simulation = players.make_simulation()
        self.speed = config.test_speed
        self._set_programme(self._find_part(config.test_scenario))
        self._guest: Guest | None = None
        self._finished = ""  # the id of the last guest that played to its end
        self._is_over = False  # the programme was a recording, and has ended
        self.on_changed: Callable[[], None] = lambda: None
        self.enabled = True
        self.symbols = config.test_symbols
        self._own_symbols = "no symbols" if config.is_mixed else "the simulator's own symbols"
        self.frames = 0

    def _find_part(self, scenario: str) -> Part:
        name = Path(scenario).name  # clients need not know where it lies
        if is_recording(scenario):
            return _make_replay_part(self._players.make_programme_replay(scenario, self.speed), name, scenario)
        return Part(self._simulation, name, scenario, find_scenario(scenario))

    def _set_programme(self, part: Part) -> None:
        self._programme = part
        if part.scenario is not None:
            self._simulation.set_scenario(part.scenario)

    @property
    def _part(self) -> Part:
        return self._guest.part if self._guest is not None else self._programme

    def get_indicator(self) -> Indicator:
        """What clients are told."""
        mode = "simulated" if self._part.replayer is None else "replay"
        return Indicator(mode, self._part.name, (), self.enabled)

    def get_status(self) -> dict[str, Any]:
        """What operators are told; `replay` is the id of the guest, `finished` of the last one that was played out."""
        return {
            "enabled": self.enabled,
            "scenario": self._part.name,
            "speed": self.speed,
            "symbols": list(self.symbols),
            "frames": self.frames,
            "replay": self._guest.id if self._guest is not None else "",
            "finished": self._finished,
            "over": self._is_over,
            "progress": {} if self._part.replayer is None else self._part.replayer.get_status(),
        }

    def get_switches(self) -> Switches:
        """How everything is switched now; a guest is nobody's to play again."""
        return Switches(self.enabled, self._programme.source, self.speed, self.symbols)

    async def restore(self, switches: Switches) -> None:
        """Be switched as the ingest before us was; a scenario that cannot be played any more stays out."""
        if switches == self.get_switches():
            return
        self.enable(switches.enabled)
        self.set_symbols(switches.symbols)
        self.set_speed(switches.speed)
        try:
            await self.set_scenario(switches.scenario)
        except Unplayable as exc:
            _log.error("test data: it was switched to %s, which cannot be played now: %s", switches.scenario, exc)

    # Switches: each takes effect at once, but for the time that a file takes to be read, in a thread.

    def _switch(self) -> None:
        self._switched.set()
        self.on_changed()

    def enable(self, enabled: bool) -> None:
        """Stop all events, or let them go on."""
        if enabled != self.enabled:
            self.enabled = enabled
            _log.warning("test data: %s", "enabled" if enabled else "disabled")
            self._switch()

    async def set_scenario(self, scenario: str) -> None:
        """Play this scenario or recording as the programme, now; raises Unplayable, and then nothing has changed."""
        self._set_programme(await asyncio.to_thread(self._find_part, scenario))
        self._guest = None
        self._is_over = False
        _log.warning("test data: scenario %s", self._programme.name)
        self._switch()

    def set_speed(self, speed: float) -> None:
        """How fast time runs for the simulated market, and for a recording in its place."""
        self._simulation.set_speed(speed)
        if self._programme.replayer is not None:
            self._programme.replayer.set_speed(speed)
        self.speed = speed
        _log.warning("test data: speed %g", speed)

    def set_symbols(self, symbols: Iterable[str]) -> None:
        """The symbols of the simulated market; none: its own list, or beside live data none at all."""
        self.symbols = tuple(symbols)
        self._simulation.set_symbols(self.symbols)
        _log.warning("test data: %s", f"{len(self.symbols)} symbols" if self.symbols else self._own_symbols)
        self.on_changed()

    async def play_guest(self, ident: str, take: Take) -> None:
        """Play a recording until it ends or is stopped; raises Unplayable, and then nothing has changed."""
        replay = await asyncio.to_thread(self._players.make_replay, take)
        self._guest = Guest(ident, _make_replay_part(replay, Path(take.path).name, take.path))
        _log.warning("test data: replay of %s", take.path)
        self._switch()

    def stop_guest(self, ident: str) -> None:
        """Go back to the programme, if this guest still plays."""
        if self._guest is not None and self._guest.id == ident:
            self._end_guest()

    def _end_guest(self) -> None:
        self._guest = None
        _log.warning("test data: the replay is over; back to %s", self._programme.name)
        self._switch()

    # What plays.

    async def run(self) -> None:
        """Greet, then play for ever what is to be played."""
        self._upstream.opened(self._receive)
        self._say([CONNECTED])
        while True:
            self._switched.clear()
            await self._play(self._part)

    async def _play(self, part: Part) -> None:
        """Until it is over, or something else is to be played."""
        switched = asyncio.create_task(self._switched.wait(), name="test data switch")
        tasks: list[asyncio.Task[Any]] = [switched]
        if self.enabled and not (self._is_over and part is self._programme):
            part.player.set_held(frozenset(self._held))
            tasks.append(asyncio.create_task(part.player.run(self._emit), name=f"test data: {part.name}"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(tasks)
        if switched not in done:
            self._on_over(part, tasks[1])

    def _on_over(self, part: Part, task: asyncio.Task[Any]) -> None:
        if part.replayer is None:
            task.result()
            raise AssertionError("a simulated market has no end")
        if (problem := task.exception()) is not None:
            _log.error("test data: %s: %s", part.name, problem)
        if self._guest is not None and part is self._guest.part:
            self._finished = self._finished if problem is not None else self._guest.id
            self._end_guest()
        elif part is self._programme:  # else it was stopped or replaced as it ended
            self._is_over = True
            _log.warning("test data: the recording is over; nothing comes after it")

    def _emit(self, frame: bytes) -> None:
        self.frames += 1
        self._take(frame)

    # Upstream's side of the conversation (PROTOCOL c).

    def _say(self, statuses: list[Status]) -> None:
        # Not from within the call that sent the action: upstream answers later, too.
        loop = asyncio.get_running_loop()
        for status in statuses:
            loop.call_soon(self._upstream.on_status, encode_status(status))

    def _receive(self, text: str) -> None:
        action = parse_action(text)
        if action.action == "auth":
            self._say([AUTH_SUCCESS])
            return
        channels = action.params.split(",")
        if action.action == "subscribe":
            self._held.update(channels)
            self._say([subscribed(channel) for channel in channels])
        else:
            self._held.difference_update(channels)
            self._say([unsubscribed(channel) for channel in channels])
        self._part.player.set_held(frozenset(self._held) if self.enabled else _NOBODY)


def _make_replay_part(replay: Replayer, name: str, source: str) -> Part:
    return Part(replay, name, source, replayer=replay)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
