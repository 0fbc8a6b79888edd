"""The last batches that Redis has answered, in case it comes back without its log.  Pure."""

from collections import deque
from typing import Final

from ingest.batch import Encoded

KEPT_S: Final = 10.0  # a gateway that lost Redis together with us is at most that far behind
# With what waits for an answer; ~5 s at 50,000 events/s.  What waits takes the place of what was answered, so that no
# outage makes this process much larger; LEAST_BYTES, ~0.5 s, stay whatever waits.  Beyond it a gateway that was further
# behind when Redis was lost, and came back empty, finds a gap.
KEPT_BYTES: Final = 32 * 1024 * 1024
LEAST_BYTES: Final = 4 * 1024 * 1024


class Answered:
    """Batches in the order of their ids, each with the time of its answer in seconds."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, Encoded]] = deque()
        self.size = 0  # bytes

    def add(self, batch: Encoded, now: float, waiting: int) -> None:
        """Redis has answered this one; `waiting` bytes it has not."""
        self._batches.append((now, batch))
        self.size += batch.size
        while self._batches[0][0] < now - KEPT_S:
            self._drop_oldest()
        self.make_room(waiting)

    def make_room(self, waiting: int) -> None:
        """So many bytes wait for an answer now."""
        while self.size > max(KEPT_BYTES - waiting, LEAST_BYTES):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.size -= self._batches.popleft()[1].size

    def take_beyond(self, epoch_and_sequence: tuple[int, ...]) -> list[Encoded]:
        """Those with a later id; if there are any, nothing is kept afterwards."""
        beyond = [batch for _, batch in self._batches if batch.mark[:2] > epoch_and_sequence]
        if beyond:
            self._batches.clear()
            self.size = 0
        return beyond
