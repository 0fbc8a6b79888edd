"""One soak: everybody connects, faults strike one after the other, everybody gets the rest, and the verdict."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.processes import until
from tests.soak.faults import Fault, Injury
from tests.soak.ledger import NOTE_S, Account, Outage
from tests.soak.memory import Growth, Memory
from tests.soak.person import EXPECTED
from tests.soak.report import Times, render_account, render_memory, render_times
from tests.soak.stage import Plan, Stage, running_stage

_CONNECTED_WITHIN_S: Final = 30.0
_GIVE_UP_S: Final = 30.0  # beyond the bound: then the soak ends, for nothing can be told apart any more
_REST_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.02
_EXAMPLES: Final = 60
_BEFORE_MS: Final = 1500  # what upstream sent before a fault may be under way to ingest when it strikes


class Soak:
    """One run; `say` gets a line for each fault."""

    def __init__(self, stage: Stage, say: Callable[[str], None], *, must_be_flat: bool) -> None:
        self._stage = stage
        self._say = say
        self._must_be_flat = must_be_flat  # each process's memory
        self.times: dict[str, Times] = {}
        self.account = Account()
        self.ends: Counter[str] = Counter()
        self.failures: list[str] = []
        self.seconds = 0.0
        self.memory = Memory(lambda: stage.running)

    @property
    def is_passed(self) -> bool:
        """Whether each event is accounted for, and each bound met."""
        is_flat = not self._must_be_flat or all(found.is_flat for found in self._find_growth().values())
        is_met = all(found.is_met for found in self.times.values())
        return self.account.is_clean and not self.failures and is_met and is_flat

    def _find_growth(self) -> dict[str, Growth]:
        return {name: found for name in self.memory.samples if (found := self.memory.find_growth(name))}

    async def run(self, faults: Sequence[Fault], seconds: float, pause_s: tuple[float, float]) -> None:
        """All of the faults in any order, again and again until the time is over: so its parts can be compared."""
        stage = self._stage
        self._began = time.monotonic()
        stage.flow.start()
        stage.bars.start()
        tasks = [asyncio.create_task(person.live(), name="person") for person in stage.people]
        tasks.append(asyncio.create_task(self._note(), name="notes"))
        tasks.append(asyncio.create_task(self.memory.run(), name="memory"))
        try:
            await self._until_well(Injury(time.monotonic(), stage.get_last()), _CONNECTED_WITHIN_S)
            began = time.monotonic()
            waiting: list[Fault] = []
            struck = 0
            while struck < len(faults) or time.monotonic() - began < seconds:
                waiting = waiting or stage.chance.sample(faults, len(faults))
                await asyncio.sleep(stage.chance.uniform(*pause_s))
                await self._strike(waiting.pop())
                struck += 1
            await self._settle()
        except AssertionError as error:
            self.failures.append(f"{error}\n{stage.describe_unwell(stage.get_last())}")
        finally:
            await self._end(tasks)
        self._judge()

    async def _strike(self, fault: Fault) -> None:
        stage = self._stage
        struck_ms = time.time_ns() // 1_000_000
        began = time.monotonic()
        try:
            injury = await fault.strike(stage)
            took_s = await self._until_well(injury, fault.bound_s + _GIVE_UP_S)
            self.times.setdefault(fault.name, Times(fault.bound_s)).seconds.append(took_s)
            if injury.after is not None:
                await injury.after()
                await self._until_well(Injury(time.monotonic(), stage.get_last()), fault.bound_s + _GIVE_UP_S)
        except AssertionError as error:
            raise AssertionError(f"{fault.name}: {error}") from error
        finally:
            if fault.loses:
                stage.outages.append(Outage(struck_ms - _BEFORE_MS, time.time_ns() // 1_000_000))
        self._say(f"{fault.name}: {took_s:.2f} s (with all around it {time.monotonic() - began:.1f} s)")

    async def _until_well(self, injury: Injury, within_s: float) -> float:
        """Seconds from the injury until all is well."""
        stage = self._stage
        deadline = time.monotonic() + within_s
        while not (stage.is_well(injury.last) and (injury.also is None or await injury.also())):
            assert time.monotonic() < deadline, f"not well within {within_s:g} s: {stage.describe_unwell(injury.last)}"
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - injury.since

    async def _note(self) -> None:
        while True:
            now_ms = time.time_ns() // 1_000_000
            for person in self._stage.people:
                person.stream.note(now_ms)
            await asyncio.sleep(NOTE_S)

    async def _settle(self) -> None:
        """Stop the flow once everybody got something of each channel after the last gap; then all must come."""
        stage = self._stage
        last = stage.get_last()
        await until(lambda: all(p.is_beyond(last, all) for p in stage.people), "all flows", within_s=_REST_WITHIN_S)
        stage.flow.stop()
        stage.bars.stop()
        await until(self._has_all, "everybody has the last events", within_s=_REST_WITHIN_S)

    def _has_all(self) -> bool:
        return not any(person.stream.count_tail() for person in self._stage.people)

    async def _end(self, tasks: "Sequence[asyncio.Task[None]]") -> None:
        self.seconds = time.monotonic() - self._began
        for flow in (self._stage.flow, self._stage.bars):
            flow.stop()
        for person in self._stage.people:
            person.leave()
        for task in tasks[-2:]:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=5.0)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                self.failures.append(f"a client of ours failed: {task.exception()!r}")

    def _judge(self) -> None:
        for number, person in enumerate(self._stage.people):
            account = person.stream.judge(self._stage.outages)
            who = f"client {number} ({person.name or 'without a name'})"
            account.examples = [f"{who}: {example}" for example in account.examples]
            self.account.add(account)
            self.ends.update(person.ends)
        self.failures += [f"{n} connections ended: {end}" for end, n in self.ends.items() if end not in EXPECTED]

    def render(self) -> str:
        """The report."""
        flows = self._stage.flow, self._stage.bars
        emitted = sum(sum(flow.last) for flow in flows)
        growth = self._find_growth()
        late = sum(flow.late for flow in flows)
        rates = (
            f"{emitted / self.seconds:,.0f} events/s upstream, {self.account.delivered / self.seconds:,.0f} delivered"
        )
        parts = [render_times(self.times), render_account(emitted, sum(flow.sent for flow in flows), self.account)]
        parts.append(f"{self.seconds:.0f} s: {rates}; {late:,} not sent because the fake was too busy")
        parts += [render_memory(growth, must_be_flat=self._must_be_flat)] if growth else []
        parts.append("connections ended: " + ", ".join(f"{cause} {count}" for cause, count in self.ends.most_common()))
        parts.append("\n".join([*self.account.examples[:_EXAMPLES], *self.failures]))
        return "\n\n".join(parts)


async def soak(
    plan: Plan,
    directory: Path,
    faults: Sequence[Fault],
    seconds: float,
    pause_s: tuple[float, float],
    say: Callable[[str], None],
    *,
    must_be_flat: bool = False,
) -> Soak:
    """Run it all; the processes' logs are in the directory."""
    async with running_stage(plan, directory) as stage:
        run = Soak(stage, say, must_be_flat=must_be_flat)
        await run.run(faults, seconds, pause_s)
    return run
