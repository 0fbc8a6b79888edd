"""Live data and simulated symbols side by side (MIX_TEST_DATA): two upstreams that look like one.

A symbol is one or the other.  Polygon is never asked for a simulated symbol, the rehearsal for no other; a wildcard is
asked of both, and the screen drops what of Polygon's events is of a simulated symbol.  Each upstream has its own
reconcile, so when Polygon is lost what is simulated goes on, is acked, and is in no gap.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from ingest.intake import drop_statuses
from ingest.reconcile import LINGER_S
from ingest.upstream import Upstream
from shared.channels import ALL, is_covered, is_wildcard
from shared.split import Head, Split, keep


def get_symbol(channel: str) -> str:
    """What stands behind the first dot."""
    return channel.partition(".")[2]


class Sieve:
    """Which events may come from where.  Pure."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self.symbols = frozenset(symbols)  # those that are simulated
        self.dropped = 0  # live events of simulated symbols

    def is_simulated(self, channel: str) -> bool:
        """Whether an exact channel's events are simulated; a wildcard is not exact."""
        return get_symbol(channel) in self.symbols

    def pass_live(self, split: Split) -> Split:
        """What of Polygon's events clients get; statuses pass."""
        passed = keep(split, lambda head: head.symbol not in self.symbols)
        self.dropped += len(split.heads) - len(passed.heads)
        return passed

    def pass_test(self, split: Split) -> Split:
        """What of test data clients get: simulated symbols only, for a recording has others."""
        return keep(drop_statuses(split), self._is_of_simulated)

    def _is_of_simulated(self, head: Head) -> bool:
        return head.symbol in self.symbols


def _is_exact(channel: str) -> bool:
    return channel != ALL and not is_wildcard(channel)


class Mix:
    """To the rest of ingest it is an upstream: see Upstream for what its callbacks and methods mean."""

    def __init__(self, live: Upstream, test: Upstream, sieve: Sieve) -> None:
        self.live = live
        self.test = test
        self._sieve = sieve
        self._wanted: set[str] = set()
        self.changed: asyncio.Event = live.changed
        test.changed = live.changed
        self.on_wanted_types: Callable[[frozenset[str]], None] = lambda _types: None
        self.on_doubled: Callable[[frozenset[str]], None] = lambda _channels: None
        self.on_drop: Callable[[list[str]], None] = lambda _channels: None
        for upstream in (live, test):
            upstream.on_wanted_types = self._tell_wanted_types
            upstream.on_doubled = self._tell_doubled
        live.on_drop = lambda channels: self._request_drop(live, channels)
        test.on_drop = lambda channels: self._request_drop(test, channels)

    # What operators and gateways read.

    @property
    def state(self) -> str:
        return self.live.state

    @property
    def since_s(self) -> float:
        return self.live.since_s

    @property
    def drops(self) -> int:
        return self.live.drops

    @property
    def refusals(self) -> int:
        return self.live.refusals

    @property
    def last_refusal(self) -> str:
        return self.live.last_refusal

    @property
    def is_live(self) -> bool:
        return self.live.is_live

    @property
    def wanted(self) -> frozenset[str]:
        return frozenset(self._wanted)

    @property
    def held(self) -> set[str]:
        """A wildcard that both hold; an exact channel that its own side serves."""
        live, test = self.live.held, self.test.held
        wild = {channel for channel in live & test if is_wildcard(channel)}
        exact = filter(_is_exact, live | test | self._wanted)
        return wild | {c for c in exact if is_covered(c, test if self._sieve.is_simulated(c) else live)}

    @property
    def refused(self) -> dict[str, str]:
        """By Polygon; the rehearsal refuses nothing."""
        return {c: text for c, text in self.live.refused.items() if not self._sieve.is_simulated(c)}

    # Demand.

    def _choose(self, channels: Iterable[str], upstream: Upstream) -> list[str]:
        """Those that this upstream is to serve."""
        is_test = upstream is self.test
        return [c for c in channels if not _is_exact(c) or self._sieve.is_simulated(c) == is_test]

    def set_wanted(self, wanted: Iterable[str]) -> None:
        self._wanted = set(wanted)
        for upstream in (self.live, self.test):
            upstream.set_wanted(self._choose(self._wanted, upstream))

    def update_wanted(self, more: Iterable[str], less: Iterable[str]) -> None:
        more, less = set(more), set(less)
        self._wanted = (self._wanted | more) - less
        for upstream in (self.live, self.test):
            upstream.update_wanted(self._choose(more, upstream), self._choose(less, upstream))

    def set_symbols(self, symbols: Iterable[str]) -> None:
        """From now on these are simulated; who loses a symbol gives it up at once, without the linger."""
        self._sieve.symbols = frozenset(symbols)
        for upstream in (self.test, self.live):
            upstream.reconcile.set_wanted(self._choose(self._wanted, upstream), time.monotonic() - LINGER_S)
            upstream.plan()
        self.changed.set()

    def _tell_wanted_types(self, _types: frozenset[str]) -> None:
        self.on_wanted_types(self.live.reconcile.wanted_types | self.test.reconcile.wanted_types)

    def _tell_doubled(self, _channels: frozenset[str]) -> None:
        self.on_doubled(self.live.reconcile.doubled | self.test.reconcile.doubled)

    def _request_drop(self, upstream: Upstream, channels: list[str]) -> None:
        """What another side serves now goes at once: Redis would say that it is wanted, which it is."""
        own = set(self._choose(channels, upstream))
        upstream.drop([channel for channel in channels if channel not in own])
        if own:
            self.on_drop(sorted(own))

    def keep(self, channels: Iterable[str]) -> None:
        channels = list(channels)
        self.live.keep(channels)
        self.test.keep(channels)

    def drop(self, channels: Iterable[str]) -> None:
        channels = list(channels)
        self.live.drop(channels)
        self.test.drop(channels)

    def closed(self, why: str) -> None:
        self.live.closed(why)
        self.test.closed(why)

    def open_gap(self, from_ms: int, cause: str) -> None:
        self.live.open_gap(from_ms, cause)
        self.test.open_gap(from_ms, cause)

    def find_whole_ms(self) -> int | None:
        live, test = self.live.find_whole_ms(), self.test.find_whole_ms()
        return min(live, test) if live is not None and test is not None else None

    @property
    def missing_since_ms(self) -> int | None:
        both = self.live.missing_since_ms, self.test.missing_since_ms
        return min((ms for ms in both if ms is not None), default=None)

    def expect_gap(self, from_ms: int, cause: str) -> None:
        self.live.expect_gap(from_ms, cause)
        self.test.expect_gap(from_ms, cause)
