"""A recording, played as a market: each frame leaves at its time, at a speed, and only what is held.

Pacing.  A frame is due `(its time - that of the first) / speed` after the first.  Who is late catches up, but what is
late by more than SLIP_S, such as after a sleeping machine, moves all that follows instead of piling up.  While more
than BACKLOG_BYTES wait for Redis, nothing leaves; at no given speed that alone holds a frame back.

It begins once something is held and SETTLE_S have brought no more, so that who subscribes first misses nothing.
Statuses are left out: they were upstream's to us.  Holes are passed over as the silence that they are.

What is stopped and played again goes on with the next frame, at once.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from ingest.timestamps import Shift
from shared.channels import ALL, is_covered, make_channel
from shared.recording import BadRecording, Frame
from shared.recording_reader import Chunk, RecordingReader
from shared.split import Head, MalformedFrame, join, split_frame

_log = logging.getLogger(__name__)
BACKLOG_BYTES: Final = 4 * 1024 * 1024  # far below what the publisher may keep, and ~0.5 s of Redis' work
SETTLE_S: Final = 0.5
SLIP_S: Final = 1.0
_STEP_S: Final = 0.005  # the event loop gets its turn at least so often
_POLL_S: Final = 0.001  # for room
_PASS_S: Final = 1.0  # what a pass takes at least, at a given speed: a recording may have no duration
_LOOK_S: Final = 0.5  # within a silence, at whether the speed has changed
_FRAME_BYTES: Final = 256 * 1024
_KNOWN_MOST: Final = 200_000  # (event type, symbol) pairs whose being held is remembered; beyond it all are forgotten
_NEW_YORK: Final = ZoneInfo("America/New_York")


class Replay:
    """A Player (ingest/player.py) of one recording.  Raises BadRecording if it cannot be played."""

    def __init__(
        self,
        path: Path,
        speed: float | None = 1.0,
        start: time_of_day | None = None,
        *,
        loop: bool = False,
        rewrite_times: bool = False,
        feed: str = "stocks",
        get_backlog: Callable[[], int] = lambda: 0,
    ) -> None:
        """`speed` None: as fast as it is taken; `start` is in New York; `get_backlog`: bytes that wait for Redis.

        With `rewrite_times` timestamps in events are moved so that the replay's begin is now, by whole seconds, so that
        second bars stay on seconds; at another speed than 1 they run at the recording's own pace, ahead of the clock.
        """
        try:
            self._reader = RecordingReader(path, lambda damage: _log.warning("replay: %s", damage))
            self._span = RecordingReader(path).read_span()
        except OSError as exc:
            raise BadRecording(f"{path}: cannot be read ({exc.strerror})") from None
        if not self._span.frames:
            raise BadRecording(f"{path}: holds no frame")
        self._from_us = self._find_start(path, start)
        self._speed = speed
        self._loop = loop
        self._rewrite_times = rewrite_times
        self._feed = feed
        self._get_backlog = get_backlog
        self._held: frozenset[str] = frozenset()
        self._held_changed = asyncio.Event()
        self._known: dict[tuple[str, str], bool] = {}
        self._shift: Shift | None = None
        self._at_us = self._from_us
        self._is_anchored = False
        self._anchor_us = 0  # a moment of the recording,
        self._anchored_at = 0.0  # and the loop time at which it was due
        self._yielded_at = 0.0
        self._chunk = 0  # the number of the chunk under way,
        self._done = 0  # and how many of its records are behind us
        self._frames = 0
        self._passes = 0

    def _find_start(self, path: Path, start: time_of_day | None) -> int:
        """The first moment of the recording at this time of day; raises BadRecording if it has none."""
        first_us, last_us = self._span.first_us, self._span.last_us
        if start is None:
            return first_us
        first = datetime.fromtimestamp(first_us / 1e6, _NEW_YORK)
        wanted = datetime.combine(first.date(), start, _NEW_YORK)
        if wanted < first.replace(microsecond=0):
            wanted = datetime.combine(first.date() + timedelta(days=1), start, _NEW_YORK)
        wanted_us = int(wanted.timestamp() * 1e6)
        if wanted_us > last_us:
            last = datetime.fromtimestamp(last_us / 1e6, _NEW_YORK)
            raise BadRecording(f"{path}: reaches from {first:%H:%M:%S} to {last:%H:%M:%S} New York, without {start}")
        return max(wanted_us, first_us)

    def set_held(self, held: frozenset[str]) -> None:
        """Only events of these channels (EV.SYM, EV.*, *) are emitted from now on."""
        self._held = held
        self._known.clear()
        self._held_changed.set()

    def set_speed(self, speed: float | None) -> None:
        """From now on; what is waited for leaves at once."""
        self._speed = speed
        self._is_anchored = False

    def get_status(self) -> dict[str, Any]:
        """How far it is, in seconds of the recording, and what time it is there."""
        return {
            "position_s": (self._at_us - self._from_us) / 1e6,
            "total_s": (self._span.last_us - self._from_us) / 1e6,
            "recorded_at": datetime.fromtimestamp(self._at_us / 1e6, _NEW_YORK).isoformat(timespec="milliseconds"),
            "frames": self._frames,
            "passes": self._passes,
        }

    async def run(self, emit: Callable[[bytes], None]) -> None:
        """Play what is left of it, and again and again if it is to loop.

        `emit` gets frames of at most 256 KiB, but for larger events.
        """
        await self._until_held()
        while True:
            self._is_anchored, self._shift = False, None
            began_at = asyncio.get_running_loop().time()
            frames = self._frames if self._chunk == self._done == 0 else -1  # -1: the rest of a pass may hold none
            async for chunk in self._read_ahead():
                await self._play_chunk(chunk, emit)
            self._chunk = self._done = 0
            self._passes += 1
            if not self._loop or self._frames == frames:
                _log.info("replay: over after %d frames", self._frames)
                return
            took_s = asyncio.get_running_loop().time() - began_at
            await asyncio.sleep(0 if self._speed is None else max(0.0, _PASS_S - took_s))

    async def _until_held(self) -> None:
        try:
            while True:
                self._held_changed.clear()
                async with asyncio.timeout(SETTLE_S if self._held else None):
                    await self._held_changed.wait()
        except TimeoutError:
            return  # something is held, and nothing was added for a while

    async def _read_ahead(self) -> AsyncIterator[Chunk]:
        """One chunk is read, in a thread, while the one before is played: a disk's delay is nobody's."""
        chunks = self._reader.chunks(self._from_us, self._chunk)
        ahead = asyncio.create_task(asyncio.to_thread(next, chunks, None), name="replay reader")
        try:
            while (chunk := await ahead) is not None:
                ahead = asyncio.create_task(asyncio.to_thread(next, chunks, None), name="replay reader")
                yield chunk
        finally:
            ahead.cancel()

    async def _play_chunk(self, chunk: Chunk, emit: Callable[[bytes], None]) -> None:
        if chunk.number != self._chunk:
            self._chunk, self._done = chunk.number, 0
        for record in chunk.records[self._done :]:
            if isinstance(record, Frame) and record.time_us >= self._from_us:
                await self._play(record, emit)
            self._done += 1

    async def _play(self, frame: Frame, emit: Callable[[bytes], None]) -> None:
        await self._until_due(frame.time_us)
        self._at_us = frame.time_us
        self._frames += 1
        for part in self._select(frame.data):
            emit(part)

    async def _until_due(self, time_us: int) -> None:
        loop = asyncio.get_running_loop()
        while self._get_backlog() > BACKLOG_BYTES:
            await self._yield(_POLL_S)
        while (early_s := self._find_early_s(time_us, loop.time())) > 0:
            await self._yield(min(early_s, _LOOK_S))
        if early_s < -SLIP_S:
            self._anchored_at -= early_s
        if loop.time() - self._yielded_at >= _STEP_S:
            await self._yield(0)

    def _find_early_s(self, time_us: int, now: float) -> float:
        """The seconds until it is due; below 0: it is late."""
        if not self._is_anchored:
            self._anchor(time_us, now)
        if self._speed is None:
            return 0.0
        return self._anchored_at + (time_us - self._anchor_us) / 1e6 / self._speed - now

    def _anchor(self, time_us: int, now: float) -> None:
        self._is_anchored, self._anchor_us, self._anchored_at, self._yielded_at = True, time_us, now, now
        if self._rewrite_times and self._shift is None:
            self._shift = Shift((time.time_ns() // 1000 - time_us) // 1_000_000 * 1000)

    async def _yield(self, for_s: float) -> None:
        await asyncio.sleep(for_s)
        self._yielded_at = asyncio.get_running_loop().time()

    def _select(self, data: bytes) -> list[bytes]:
        """The frame's events that are held, as frames; it is the very frame if nothing is left out or changed."""
        try:
            split = split_frame(data)
        except MalformedFrame:
            return []
        pairs = [pair for pair in zip(split.heads, split.bodies, strict=True) if self._is_held(pair[0])]
        if not pairs:
            return []
        if self._shift is not None:
            shift = self._shift
            return _join_in_parts([shift.apply(head.ev, body) for head, body in pairs])
        if len(pairs) == len(split.heads) and not split.malformed and len(data) <= _FRAME_BYTES:
            return [data]
        return _join_in_parts([body for _, body in pairs])

    def _is_held(self, head: Head) -> bool:
        key = head.ev, head.symbol
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            known = self._known[key] = self._find_held(*key)
        return known

    def _find_held(self, event_type: str, symbol: str) -> bool:
        if event_type == "status" or not event_type or not symbol:
            return False
        return ALL in self._held or is_covered(make_channel(self._feed, event_type, symbol), self._held)


def _join_in_parts(bodies: list[bytes]) -> list[bytes]:
    """Frames of at most 256 KiB, or of one event."""
    frames: list[bytes] = []
    start = size = 0
    for place, body in enumerate(bodies):
        if size and size + len(body) + 4 > _FRAME_BYTES:
            frames.append(join(bodies[start:place]))
            start, size = place, 0
        size += len(body) + 3
    return [*frames, join(bodies[start:])]
