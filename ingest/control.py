"""What operators may ask of the ingest that has the upstream slot (shared/control.py), and what it answers.

Every command but `inject` says how things shall be, so it may be said twice.  Commands run one after the other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import time
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.census import count_clients
from ingest.inject import BadEvent, parse_injection
from ingest.intake import Intake
from ingest.mix import Mix, get_symbol
from ingest.players import Take, Unplayable
from ingest.publisher import Publisher
from ingest.rehearsal import Rehearsal
from ingest.slot import Slot
from ingest.state import StateWriter
from shared import config
from shared.backoff import Backoff
from shared.control import BadRequest, NotDone, Reply, Request, answer, parse_request
from shared.indicator import Indicator
from shared.names import Names

_log = logging.getLogger(__name__)
_SENT_WITHIN_S: Final = 2.0  # Redis has answered what was published by then, or the reply says that it has not
_OFF: Final = "this ingest plays no test data: ENABLE_TEST_MODE or MIX_TEST_DATA (with TEST_SYMBOLS) turns it on"
_Text = Annotated[str, msgspec.Meta(max_length=65_536)]  # thousands of symbols
_Ident = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{1,32}$")]


class Parts(NamedTuple):
    """What control works on; no rehearsal: the feed is live; a mix: it is mixed."""

    rehearsal: Rehearsal | None
    mix: Mix | None
    intake: Intake
    publisher: Publisher
    state: StateWriter


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: _Text


class _Injection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    frame: str
    first: Annotated[int, msgspec.Meta(ge=1)] = 1  # the number of its first event, for who sends many frames


class _Replay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: _Ident
    path: _Text
    speed: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = 1.0
    start: Annotated[str, msgspec.Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$")] | None = None
    loop: bool = False
    rewrite_times: bool = False


class _Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: _Ident


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Control:
    """Listens while the slot is ours."""

    def __init__(self, redis: "Redis", names: Names, slot: Slot, parts: Parts) -> None:
        self._redis = redis
        self._names = names
        self._slot = slot
        self._parts = parts
        self.injected = 0  # events

    def get_indicator(self) -> Indicator | None:
        """What clients are told of test data; None while all is live."""
        rehearsal, mix = self._parts.rehearsal, self._parts.mix
        if rehearsal is None:
            return None
        indicator = rehearsal.get_indicator()
        if mix is None:
            return indicator
        return msgspec.structs.replace(indicator, mode="mixed", symbols=rehearsal.symbols)

    async def run(self) -> None:
        """Answer for as long as the process runs."""
        backoff = Backoff(0.1, 2.0)
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._names.control)
                    backoff.reset()
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            await self._on_message(message["data"])
            except (RedisError, OSError) as exc:
                delay_s = backoff.next_s()
                _log.warning("control: cut off (%s), next try in %.1f s", exc, delay_s)
                await asyncio.sleep(delay_s)

    async def _on_message(self, text: bytes) -> None:
        try:
            request = parse_request(text)
        except BadRequest as exc:
            _log.warning("control: not a request: %s", exc)
            return
        if not self._slot.is_sure():
            _log.warning("control: %s: not answered, the slot may be another's", request.command)
            return
        await answer(self._redis, self._names, request, await self._obey(request))

    async def _obey(self, request: Request) -> Reply:
        try:
            if request.command not in _COMMANDS:
                raise NotDone(f"unknown command {request.command!r}")
            shape, handler = _COMMANDS[request.command]
            rehearsal = self._parts.rehearsal
            if rehearsal is None and request.command != "status":
                raise NotDone(_OFF)
            args = msgspec.convert(request.args, shape)
            return Reply(data=await handler(self, args) or self._get_status())
        except (NotDone, Unplayable, BadEvent, config.ConfigError) as exc:
            return Reply(error=str(exc))
        except msgspec.ValidationError as exc:
            return Reply(error=f"{request.command}: {exc}")

    @property
    def _rehearsal(self) -> Rehearsal:
        assert self._parts.rehearsal is not None, "looked at before"
        return self._parts.rehearsal

    def _get_status(self) -> dict[str, Any]:
        indicator = self.get_indicator()
        if indicator is None:
            return {"mode": "live"}
        return {"mode": indicator.mode, **self._rehearsal.get_status()}

    async def _settle(self) -> None:
        """When the answer leaves, what was taken in before is on its way, and gateways know what is played."""
        self._parts.intake.flush()
        await self._parts.state.write()
        try:
            async with asyncio.timeout(_SENT_WITHIN_S):
                await self._parts.publisher.until_answered()
        except TimeoutError:
            raise NotDone("done, but Redis does not take what is published") from None

    async def _on_status(self, _args: _Nothing) -> None:
        pass

    async def _on_enable(self, _args: _Nothing) -> None:
        self._rehearsal.enable(True)
        await self._settle()

    async def _on_disable(self, _args: _Nothing) -> None:
        self._rehearsal.enable(False)
        await self._settle()

    async def _on_scenario(self, args: _Value) -> None:
        await self._rehearsal.set_scenario(config.check("TEST_SCENARIO", args.value))
        await self._settle()

    async def _on_speed(self, args: _Value) -> None:
        self._rehearsal.set_speed(config.check("TEST_SPEED", args.value))

    async def _on_symbols(self, args: _Value) -> None:
        symbols = config.check("TEST_SYMBOLS", args.value)
        self._rehearsal.set_symbols(symbols)
        if self._parts.mix is not None:
            self._parts.mix.set_symbols(symbols)
        await self._settle()

    async def _on_replay(self, args: _Replay) -> None:
        start = time.fromisoformat(args.start) if args.start is not None else None
        await self._rehearsal.play_guest(args.id, Take(args.path, args.speed, start, args.loop, args.rewrite_times))
        await self._settle()

    async def _on_stop(self, args: _Stop) -> None:
        self._rehearsal.stop_guest(args.id)
        await self._settle()

    async def _on_inject(self, args: _Injection) -> dict[str, Any]:
        injection = parse_injection(self._names.feed, args.frame.encode("utf-8", "surrogatepass"), args.first)
        self._check_simulated(injection.channels)
        self._parts.intake.take_test(injection.frame)
        self.injected += injection.events
        await self._settle()
        try:
            count = await count_clients(self._redis, self._names, injection.channels)
        except (RedisError, OSError) as exc:
            raise NotDone(f"injected, but who got it is not known: Redis does not answer ({exc})") from None
        return {"events": injection.events, "clients": count.clients, "silent_gateways": count.silent}

    def _check_simulated(self, channels: frozenset[str]) -> None:
        """With live data beside it, nobody may forge a live price."""
        if self._parts.mix is None:
            return
        live = sorted(channel for channel in channels if get_symbol(channel) not in self._rehearsal.symbols)
        if live:
            raise NotDone(f"{live[0]}: its symbol is live; `polygon-proxy test symbols` says which are simulated")


_Handler = Callable[[Control, Any], Awaitable[dict[str, Any] | None]]
_COMMANDS: Final[dict[str, tuple[type[msgspec.Struct], _Handler]]] = {
    "status": (_Nothing, Control._on_status),
    "enable": (_Nothing, Control._on_enable),
    "disable": (_Nothing, Control._on_disable),
    "scenario": (_Value, Control._on_scenario),
    "speed": (_Value, Control._on_speed),
    "symbols": (_Value, Control._on_symbols),
    "replay": (_Replay, Control._on_replay),
    "stop": (_Stop, Control._on_stop),
    "inject": (_Injection, Control._on_inject),
}
