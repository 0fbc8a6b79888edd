"""The simulated market in real time: a player (ingest/player.py) that steps the market along with the clock."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.simulator.clock import Clock
from ingest.simulator.hours import NEW_YORK, to_ms
from ingest.simulator.listing import SYMBOLS
from ingest.simulator.market import Market
from ingest.simulator.scenario import NORMAL, Scenario
from shared.config import Config
from shared.lifecycle import Tasks
from shared.names import Names

_log = logging.getLogger(__name__)
_TICK_S: Final = 0.01
_STEP_S: Final = 0.002  # of work, then the event loop gets its turn
_FIRST_STEP_MS: Final = 4.0
_MOST_STEP_MS: Final = 1000.0
_MOST_BEHIND_S: Final = 1.0  # of wall time; then simulated time slips
_SAVE_EVERY_S: Final = 1.0
_SAVE_SHARE: Final = 0.01  # of the event loop's time: 5,000 symbols (~35 ms each time) are saved every 3.5 s
_SAVE_LATEST_S: Final = 10.0  # market.py's _JUMP is enough for 20
_LAST_SAVE_S: Final = 0.5  # longer we do not wait for Redis when a run ends


class Simulation:
    """Saves the market in Redis every second and when a run ends, so that prices go on after a restart.

    Thousands of symbols are saved less often.  With TEST_SEED nothing is.
    It must be built and run in one event loop; its methods may be called while it runs, and before.
    """

    def __init__(self, config: Config, redis: "Redis | None", names: Names) -> None:
        """redis: None: nothing is saved."""
        self._config = config
        self._redis = redis if config.test_seed is None else None
        self._names = names
        self._held: frozenset[str] = frozenset()
        self._scenario = NORMAL
        self._symbols = config.test_symbols or SYMBOLS
        self._is_exact = config.test_start is not None
        start_ms = _find_start_ms(config.test_start)
        self._clock = Clock(start_ms, config.test_speed, time.monotonic())
        self._market: Market | None = None
        self._now_ms = start_ms  # how far the market is
        self._step_ms = _FIRST_STEP_MS
        self._has_slipped = False

    def set_held(self, held: frozenset[str]) -> None:
        """The channels whose events are emitted from now on."""
        self._held = held
        if self._market is not None:
            self._market.set_held(held)

    def set_scenario(self, scenario: Scenario) -> None:
        """From now on, at any speed."""
        self._scenario = scenario
        self._warn_if_without_effect()
        if self._market is not None:
            if self._is_present:
                self._skip_to(_find_start_ms(None))  # nobody may play now, and it begins when it is set
            self._market.set_scenario(scenario, self._now_ms)
        elif self._is_present:
            self._now_ms = _find_start_ms(None)  # a market that has never played begins with it

    def _warn_if_without_effect(self) -> None:
        scenario, symbols = self._scenario, self._scenario.symbols
        if symbols is None or symbols & {*self._symbols}:
            return
        if not any(phase.halt.startswith("level") for phase in scenario.phases):  # which concern all
            _log.warning("scenario %s has no effect: none of its symbols is simulated", scenario.name)

    def set_speed(self, speed: float) -> None:
        """Simulated seconds per second, 0.01 to 1000."""
        self._clock.set_speed(speed, time.monotonic())

    def set_symbols(self, symbols: tuple[str, ...]) -> None:
        """Empty: our own list.  Symbols that stay keep their prices; the scenario starts again.

        A symbol that does not stay loses its bars that were not sent yet.
        """
        self._symbols = symbols or SYMBOLS
        if self._market is not None:
            self._market = self._make_market(self._market.get_state())

    async def run(self, emit: Callable[[bytes], None]) -> None:
        """Play for as long as the task runs; may be called again after that."""
        if self._market is None:
            self._market = await self._load()
        if self._is_present:
            self._skip_to(_find_start_ms(None))  # it stood still since the last run, the world did not
        self._clock.set_ms(self._now_ms, time.monotonic())
        try:
            async with Tasks() as tasks:
                tasks.start("market state", self._save_now_and_then())
                while True:  # noqa: ASYNC110  the clock is what we wait for
                    await asyncio.sleep(self._play(emit))
        finally:
            await self._save_last()

    def _play(self, emit: Callable[[bytes], None]) -> float:
        """One step; the seconds to wait until the next one."""
        assert self._market is not None
        begin = time.monotonic()
        target_ms = self._find_target_ms(begin)
        if self._now_ms >= target_ms:
            return _TICK_S
        # A step ends where a second does: what a market has to do at its end and at its beginning are two steps' work.
        second_ms = (self._now_ms // 1000 + 1) * 1000
        from_ms, self._now_ms = self._now_ms, min(target_ms, self._now_ms + int(self._step_ms), second_ms)
        for frame in self._market.advance(self._now_ms):
            emit(frame)
        self._set_step(self._now_ms - from_ms, time.monotonic() - begin)
        if self._market.now_ms > self._now_ms:  # it left out a night, and so does the clock
            self._now_ms = self._market.now_ms
            self._clock.set_ms(self._now_ms, time.monotonic())
        return 0 if self._now_ms < target_ms else _TICK_S

    def _set_step(self, step_ms: int, took_s: float) -> None:
        """As much simulated time as can be worked off in _STEP_S, by what the last step took."""
        fitting = step_ms * _STEP_S / max(1e-6, took_s)
        self._step_ms = min(_MOST_STEP_MS, max(1.0, min(fitting, 2 * self._step_ms)))

    @property
    def _is_present(self) -> bool:
        """Whether simulated time is that of the world, and not its own."""
        return not self._is_exact and self._clock.speed == 1

    def _find_target_ms(self, now_s: float) -> int:
        """What time it is in the market.  What it cannot keep up with, or slept through, is not piled up."""
        target_ms = self._clock.get_ms(now_s)
        if self._is_present:
            target_ms = max(target_ms, _find_start_ms(None))  # a machine that was asleep has a clock that was, too
        if target_ms - self._now_ms > _MOST_BEHIND_S * 1000 * self._clock.speed:
            self._say_slipped("it goes on at the time of now" if self._is_present else "its time runs slower")
            if self._is_present:
                self._skip_to(target_ms)
            else:
                target_ms = self._now_ms
            self._clock.set_ms(target_ms, now_s)
        return target_ms

    def _skip_to(self, to_ms: int) -> None:
        assert self._market is not None
        if to_ms - self._now_ms > _MOST_BEHIND_S * 1000:
            self._market.skip_to(to_ms)
            self._now_ms = to_ms - to_ms % 1000

    def _say_slipped(self, what_follows: str) -> None:
        if not self._has_slipped:
            self._has_slipped = True
            _log.warning("the simulated market stood still, or cannot keep up with TEST_RATE: %s", what_follows)

    def _make_market(self, state: bytes | None, is_old: bool = False) -> Market:
        config = self._config
        seed = random.getrandbits(32) if config.test_seed is None else config.test_seed
        market = Market(
            self._symbols, seed, config.test_rate, self._now_ms,
            marker=config.test_marker, state=state, always_open=not self._is_exact, is_old=is_old,
        )  # fmt: skip
        market.set_held(self._held)
        market.set_scenario(self._scenario, self._now_ms)
        return market

    async def _load(self) -> Market:
        """The market as another run saved it, or a new one."""
        state: Any = None
        try:
            if self._redis is not None:
                state = await self._redis.get(self._names.market)
            return self._make_market(state, is_old=True)
        except (RedisError, OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
            _log.warning("the simulated market starts from its usual prices (%s)", exc)
            return self._make_market(None)

    async def _save_now_and_then(self) -> None:
        is_well, wait_s = True, _SAVE_EVERY_S
        while self._redis is not None:
            await asyncio.sleep(wait_s)
            try:
                wait_s = min(_SAVE_LATEST_S, max(_SAVE_EVERY_S, await self._save(self._redis) / _SAVE_SHARE))
                is_well = True
            except (RedisError, OSError) as exc:
                if is_well:
                    _log.warning("the simulated market is not saved: Redis does not answer (%s)", exc)
                is_well = False

    async def _save(self, redis: "Redis") -> float:
        """The seconds for which nothing else could run."""
        assert self._market is not None
        begin = time.monotonic()
        state = self._market.get_state()
        took_s = time.monotonic() - begin
        await redis.set(self._names.market, state)
        return took_s

    async def _save_last(self) -> None:
        """The run is being cancelled, so this must end soon and raise nothing."""
        if self._redis is None:
            return
        try:
            # asyncio.timeout() would not tell its own cancellation from that of the run.
            await asyncio.wait_for(self._save(self._redis), _LAST_SAVE_S)
        except (RedisError, OSError) as exc:  # OSError: TimeoutError too
            _log.info("the simulated market was last saved some seconds ago (%s)", str(exc) or "no answer from Redis")


def _find_start_ms(start: datetime | None) -> int:
    return time.time_ns() // 1_000_000 if start is None else to_ms(start.replace(tzinfo=NEW_YORK))
