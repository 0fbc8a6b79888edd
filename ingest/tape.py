"""Frames for who records them: kept until the batch in the making leaves, and written with it.

Live ones are as they were received; of test data, and of what comes beside it, what clients get (Intake).

One entry of the stream polygon:{F}:frames has the id of its batch, so that Redis refuses it the second time, and
    after    the id of the entry before; empty for the first one that this ingest wrote since it was asked
    records  the frames, each with its time, as in the chunk of a file (shared/recording.py)
A recorder that finds another `after` than the last id that it read has a hole to tell of.  A frame that fills no batch,
such as a status alone, leaves with the next one.  Pure.
"""

from typing import Final

from ingest.logbook import Logbook
from shared.batch import encode_command
from shared.names import Names
from shared.recording import encode_frame_head

FRAMES_S: Final = 10.0  # a recorder that is away for longer has a hole
FRAMES_BYTES: Final = 64 * 1024 * 1024  # ~10 s at 50,000 events/s; beyond it the stream reaches back less far
WAITING_BYTES: Final = 32 * 1024 * 1024  # of frames that fill no batch; beyond it all of them are lost, and a hole
LINGER_S: Final = 5.0  # a Redis that came back empty does not know yet that somebody records


class Tape:
    """Off, it costs a look at `is_on` for each frame and at `has_frames` for each batch."""

    def __init__(self, names: Names, epoch: int) -> None:
        self._names = names
        self._epoch = epoch
        self._parts: list[bytes] = []
        self._bytes = 0
        self._after = b""
        self._asked_at = 0.0
        self._logbook = Logbook(epoch, FRAMES_S, FRAMES_BYTES)
        self.is_on = False

    @property
    def has_frames(self) -> bool:
        """Whether the batch that leaves now takes frames along."""
        return bool(self._parts)

    def set_asked(self, is_asked: bool, now_s: float) -> None:
        """Say whether somebody records; to be called about once a second."""
        if is_asked:
            self._asked_at = now_s
            self.is_on = True
        elif self.is_on and now_s - self._asked_at >= LINGER_S:
            self.is_on = False
            self._forget()

    def _forget(self) -> None:
        self._parts.clear()
        self._bytes = 0
        self._after = b""

    def take(self, frame: bytes, received_us: int) -> None:
        """Keep a frame."""
        if self._bytes > WAITING_BYTES:
            self._forget()
        head = encode_frame_head(received_us, frame)
        self._parts += (head, frame)
        self._bytes += len(head) + len(frame)

    def encode(self, now_s: float, sequence: int) -> bytes:
        """The XADD of what was kept, under the id of the batch that it leaves with."""
        ident = b"%d-%d" % (self._epoch, sequence)
        trim = (b"MINID", b"~", self._logbook.get_oldest(now_s).encode())
        words = (b"XADD", self._names.frames.encode(), *trim, ident, b"after", self._after, b"records", b"")
        head = encode_command(*words).removesuffix(b"$0\r\n\r\n")  # so that frames are copied once
        command = b"".join((head, b"$%d\r\n" % self._bytes, *self._parts, b"\r\n"))
        self._logbook.add(now_s, sequence, self._bytes)
        self._forget()
        self._after = ident
        return command
