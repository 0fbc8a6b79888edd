"""From Redis into a file: asks ingest for its frames, reads their stream (ingest/tape.py), and writes what it read.

It may run on any machine that reaches Redis.  A Redis that is away, and an ingest that is replaced, end nothing: what
could not be read becomes a hole in the recording.
"""

import asyncio
import os
import socket
import time
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.lifecycle import Tasks
from shared.names import Names
from shared.recording import Frame, Hole, Record, iterate_records
from shared.recording_writer import RecordingWriter

ASK_EVERY_S: Final = 1.0
ASK_EXPIRES_S: Final = 10  # after a kill -9 of the recorder
SYNC_EVERY_S: Final = 5.0  # what a power cut may cost; a kill of this process costs CHUNK_S at most
_BLOCK_MS: Final = 250
_ENTRIES: Final = 64  # read at once: each holds a batch, so mostly < 16 MiB together
_RETRY_S: Final = 0.5
_FIRST_WITHIN_S: Final = 5.0
_NOBODY: Final = "no ingest is running: start one (make run); waiting for it"
_NOTHING: Final = "nothing comes yet: ingest receives what clients hold, and records that; let one subscribe"
_TOOK_OVER: Final = "another ingest took over, or it was not asked for frames"
_TRIMMED: Final = "the recorder was away for longer than Redis keeps frames"


class Recorder:
    """One recording; the counters are for progress."""

    def __init__(self, redis: "Redis", names: Names, writer: RecordingWriter) -> None:
        self._redis = redis
        self._names = names
        self._writer = writer
        self._from: bytes | None = None  # the id to read on from; None before Redis has answered
        self._last: bytes | None = None  # the id of the last entry that was read
        self._last_us = 0
        self._began_s = time.monotonic()
        self.frames = 0
        self.events = 0  # counted by a key's text, so not for bookkeeping
        self.holes = 0
        self.lag_s = 0.0  # between a frame's receipt by ingest and here
        self.trouble = "Redis has not answered yet"  # for whoever can act; empty if there is none

    @property
    def bytes_written(self) -> int:
        """In all parts of the recording."""
        return self._writer.bytes_written

    async def run(self, stop: asyncio.Event) -> None:
        """Record until `stop`, and what has arrived by then; raises OSError if the file cannot be written.

        The file is closed, and its chunks are whole, however this ends.
        """
        try:
            async with Tasks() as tasks:
                tasks.start("ask", self._ask())
                tasks.start("read", self._read())
                tasks.start("sync", self._sync())
                await tasks.until(stop)
            await self._end()
        finally:
            self._writer.close()

    async def _ask(self) -> None:
        """Keep ingest sending, and know whether there is one."""
        who = f"{socket.gethostname()}:{os.getpid()}"
        while True:
            try:
                await self._redis.set(self._names.recording, who, ex=ASK_EXPIRES_S)
                is_there = await self._redis.exists(self._names.ingest)
                self.trouble = self._find_trouble() if is_there else _NOBODY
            except (RedisError, OSError):
                self.trouble = "Redis does not answer: start it, or mend REDIS_URL; trying again"
            await asyncio.sleep(ASK_EVERY_S)

    def _find_trouble(self) -> str:
        is_empty = not self.frames and time.monotonic() - self._began_s > _FIRST_WITHIN_S
        return _NOTHING if is_empty else ""

    async def _read(self) -> None:
        while True:
            try:
                entries = await self._read_entries(_BLOCK_MS)
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)  # _ask tells of it
                entries = []
            for ident, fields in entries:
                self._take(ident, fields)
            self._writer.tick(time.monotonic())

    async def _read_entries(self, block_ms: int | None) -> list[Any]:
        stream = self._names.frames
        if self._from is None:
            newest: Any = await self._redis.xrevrange(stream, count=1)
            self._from = newest[0][0] if newest else b"0-0"
        reply: Any = await self._redis.xread({stream: self._from}, count=_ENTRIES, block=block_ms)
        streams = reply.items() if isinstance(reply, dict) else reply
        return [entry for _, entries in streams for entry in entries]

    def _take(self, ident: bytes, fields: dict[bytes, bytes]) -> None:
        try:
            records = list(iterate_records(fields[b"records"]))
        except (ValueError, KeyError) as exc:
            records = [Hole(self._last_us, self._last_us, f"ingest sent what cannot be read: {exc}")]
        if self._last is not None and fields.get(b"after") != self._last:
            until_us = records[0].time_us if records else self._last_us
            self._add(Hole(self._last_us, until_us, _TRIMMED if fields.get(b"after") else _TOOK_OVER))
        for record in records:
            self._add(record)
        self._from = self._last = ident
        self.lag_s = max(0.0, time.time() - self._last_us / 1e6)

    def _add(self, record: Record) -> None:
        self._writer.add(record, time.monotonic())
        if isinstance(record, Frame):
            self.frames += 1
            self.events += record.data.count(b'"ev":')
            self._last_us = record.time_us
            if self.trouble == _NOTHING:
                self.trouble = ""  # at once: it would be the last word of who is stopped now
        else:
            self.holes += 1

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            await asyncio.to_thread(self._writer.begin_sync())

    async def _end(self) -> None:
        """Take what is there already, and let ingest rest; another recorder asks again before ingest hears of it."""
        try:
            while entries := await self._read_entries(None):
                for ident, fields in entries:
                    self._take(ident, fields)
                if len(entries) < _ENTRIES:
                    break
            await self._redis.delete(self._names.recording)
        except (RedisError, OSError):
            self.trouble = "Redis did not answer at the end: the last frames may be missing"
