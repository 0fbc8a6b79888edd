"""What a client's own WebSocket library makes of our bytes."""

import json
from collections.abc import Generator, Hashable, Iterable, Iterator
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from gateway.hub import Hub
from shared.batch import Mark


def parse_frame(data: bytes) -> Frame:
    """The one frame that the bytes are, as websockets' client side reads it."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    steps: Generator[None, None, Frame] = Frame.parse(reader.read_exact, mask=False)
    try:
        next(steps)
    except StopIteration as end:
        frame: Frame = end.value
    else:
        raise AssertionError("the frame is not complete")
    rest = reader.at_eof()
    try:
        next(rest)
    except StopIteration as end:
        if not end.value:
            raise AssertionError("bytes after the frame") from None
    return frame


def read_events(data: bytes) -> list[dict[str, Any]]:
    """The events in a text frame that holds an array of them."""
    frame = parse_frame(data)
    assert (frame.opcode, frame.fin) == (Opcode.TEXT, True)
    events: list[dict[str, Any]] = json.loads(bytes(frame.data).decode())
    assert isinstance(events, list)
    return events


def close_batch(hub: Hub, mark: Mark) -> Iterator[tuple[bytes, Iterable[Hashable]]]:
    """What the listener does at a mark that is the last thing to arrive."""
    hub.seal(mark)
    return hub.flush()
