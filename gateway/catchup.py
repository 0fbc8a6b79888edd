"""When the live stream has a hole: read from the log what was missed, then go on live between two batches.

Theory.  The *position* is the last batch that the hub sealed.  While we are behind, entries of the log go through the
hub in the place of live messages; of those only the marks count, and the messages since the last mark are put aside.
Ingest writes a batch to the log before it publishes it, so a reading that began after a live mark came has that batch.
As soon as the position equals the last live mark, what was put aside is the beginning of the next batch, and we are
live.  If the log does not have all that lies between, the members are told the gap.

After a standstill, or a long loss of the bus, upstream may not have been asked for our channels.  The interest finds
that out and tells our members the gap, which must come before what follows it: until then we stay (`may_go_on_to`).

Epochs grow.  Marks of a lower one come from an ingest that lost its place and does not know yet, for its lease at most;
if they go on, Redis lost the epoch with all its data, and the clock by which the next was made was behind.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from gateway.hub import Hub
from gateway.log import Log
from shared.batch import Mark
from shared.channels import ALL
from shared.demand import ASKED_S
from shared.notice import make_gap

_log = logging.getLogger(__name__)
_FLUSH_BYTES: Final = 128 * 1024  # of batches in one frame, as when live
_RETRY_S: Final = 0.2
LOST_PLACE_S: Final = 6.0  # twice an ingest's lease (ingest/slot.py)
_CAUSE: Final = "the bus was away for longer than its log reaches"


class CatchUp:
    """Brings the hub from its position to the live stream; `seal` closes a batch in the hub, `flush` sends it."""

    def __init__(self, log: Log, hub: Hub, seal: Callable[[Mark], None], flush: Callable[[], None]) -> None:
        self._log = log
        self._hub = hub
        self._seal = seal
        self._flush = flush
        self.may_go_on_to: Callable[[Mark], bool] = lambda _mark: True
        self._wake = asyncio.Event()
        self._starts = 0  # a reading that began before the last one proves nothing
        self._live: Mark | None = None  # the last live mark since we are behind
        self._lower_since: float | None = None  # loop time of the first mark of a lower epoch, if all since are such
        self._aside: list[tuple[bytes, bytes]] = []  # live messages since that mark; bounded by a batch
        self.is_behind = False
        self.batches = 0
        self.gaps = 0

    def start(self) -> None:
        """The live stream has a hole before the next mark, or has ended."""
        self._hub.discard()
        self._starts += 1
        self._live = None
        self._aside.clear()
        self.is_behind = True
        self._wake.set()

    def collect(self, channel: bytes, payload: bytes) -> None:
        """A live message came while behind."""
        self._aside.append((channel, payload))

    def on_mark(self, mark: Mark) -> None:
        """A live mark came while behind."""
        self._live = mark
        self._aside.clear()
        if self._has_epoch_been_lost(mark):
            self._tell_gap(mark)
            self._hub.begin_anew(mark)
        if not self._go_live():
            self._wake.set()

    def _has_epoch_been_lost(self, mark: Mark) -> bool:
        now = asyncio.get_running_loop().time()
        is_lower = mark.epoch < self._hub.last_mark.epoch
        self._lower_since = (self._lower_since or now) if is_lower else None
        return self._lower_since is not None and now - self._lower_since > LOST_PLACE_S

    def _go_live(self) -> bool:
        position = self._hub.last_mark
        if self._live is None or self._live[:2] != position[:2] or not self.may_go_on_to(self._live):
            return False
        self.is_behind = False
        self._seal(self._live)
        self._flush()
        for channel, payload in self._aside:
            self._hub.collect(channel, payload)
        self._aside.clear()
        return True

    async def run(self) -> None:
        """Read whenever there is something to be read, for as long as the process runs."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while self.is_behind and await self._read():
                    pass
            except (RedisError, OSError) as exc:
                _log.warning("log: cannot be read (%s)", exc)
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _read(self) -> bool:
        """Apply what the log holds beyond the position; whether there may be more."""
        position, live, starts = self._hub.last_mark, self._live, self._starts
        entries, is_logged, is_end = await self._log.read(position)
        if self._starts != starts or not self.is_behind or self._hub.last_mark != position:
            return self.is_behind
        size = 0
        for entry in entries:
            if not self.may_go_on_to(entry.mark):
                self._flush()
                return False
            if not entry.is_next:
                self._tell_gap(entry.mark)
            for channel, payload in entry.messages:
                self._hub.collect(channel, payload)
            self.batches += 1
            self._seal(entry.mark)
            size += entry.size
            if size >= _FLUSH_BYTES:
                self._flush()
                size = 0
        if not is_end:
            self._flush()
            return True
        if live is not None and self.may_go_on_to(live):
            self._jump(live, is_contiguous=is_logged or bool(entries))
        self._flush()
        self._go_live()
        return False  # else the next live mark says whether there is more

    def _jump(self, live: Mark, *, is_contiguous: bool) -> None:
        """The log has been read to its end after this mark came; if it does not have it, it never will."""
        position = self._hub.last_mark
        if live[:2] <= position[:2]:
            return
        # Sequence 0: an ingest has taken over and logged nothing yet.  What the one before lost in the end, it tells.
        if live.sequence > 0 or not is_contiguous:
            self._tell_gap(live)
        self._seal(live._replace(events=0))

    def _tell_gap(self, to: Mark) -> None:
        position = self._hub.last_mark
        self.gaps += 1
        _log.error("gap: %s, from %d-%d to %d-%d", _CAUSE, *position[:2], *to[:2])
        first_ms, until_ms = sorted((position.received_us // 1000, to.received_us // 1000))  # perhaps of two clocks
        if to.epoch != position.epoch:  # an ingest that knows nothing of what came before it, so upstream is asked anew
            until_ms += int(ASKED_S * 1000)
        self._hub.tell(make_gap(first_ms, until_ms, _CAUSE, [ALL]))
