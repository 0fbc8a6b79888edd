"""What has been written to a client, what of it has arrived, and which mark that makes its position."""

import array
import asyncio
import fcntl
import json
import socket
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.counted import CountedOutbox, CountedTransport
from gateway.groups import encode_frame
from gateway.receipt import LIVE, Receipt
from shared.batch import NOTHING, Mark
from tests.processes import until

PIECE = b"x" * 65536
RESET = ConnectionResetError()


class Wire(asyncio.Transport):
    """Its socket is closed; what its buffer holds has not left this machine."""

    def __init__(self) -> None:
        super().__init__()
        self.buffered = 0
        self.after_write: Callable[[], None] = lambda: None
        self.socket = socket.socket()
        self.socket.close()

    def write(self, data: Any) -> None:
        self.after_write()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket

    def abort(self) -> None:
        self.buffered = 0


class Rig:
    """An outbox; the mark moves with each frame."""

    def __init__(self, limit_events: int = 1000) -> None:
        self.wire = Wire()
        self.transport = CountedTransport(self.wire)
        self.mark = make_mark(0)
        self.receipt = Receipt(self.mark)
        self.outbox = CountedOutbox(self.transport, limit_events, self.receipt, lambda: self.mark)

    def send(self, sequence: int, event_type: str = "T", symbol: str = "A", padding: str = "") -> None:
        self.mark = make_mark(sequence)
        event = {"ev": event_type, "sym": symbol, "n": sequence, "t": sequence, "x": padding}
        self.outbox.send(encode_frame([json.dumps(event).encode()]))

    def get_sequence(self, arrived: int | None = None) -> int:
        """The position once so much has arrived, by default all that is written."""
        self.receipt.arrived(self.transport.written if arrived is None else arrived)
        return self.receipt.lanes[LIVE].position.sequence


def make_mark(sequence: int) -> Mark:
    return NOTHING._replace(epoch=7, sequence=sequence)


# The transport, over real TCP.


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[CountedTransport, socket.socket]]:
    """Our end, and the socket of a client that reads when it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(server.getsockname())
        ours, _ = server.accept()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        try:
            yield CountedTransport(transport), client
        finally:
            transport.abort()


def count_received(client: socket.socket) -> int:
    """Bytes that the client's kernel has acknowledged and its program not read (SIOCINQ)."""
    size = array.array("i", [0])
    fcntl.ioctl(client.fileno(), termios.FIONREAD, size)
    return size[0]


async def test_what_the_clients_kernel_has_acknowledged_has_arrived_to_the_byte() -> None:
    async with connected() as (transport, client):
        for _ in range(100):
            transport.write(PIECE)

        def is_exact() -> bool:
            return 0 < transport.written - transport.count_under_way() == count_received(client)

        await until(is_exact, "as many bytes are acknowledged as the client's kernel has")
        assert transport.get_write_buffer_size() > 0, "some wait here"
        assert transport.count_under_way() > transport.get_write_buffer_size(), "and some in our kernel"
        has = count_received(client)
        transport.abort()
        assert (transport.written, transport.arrived) == (100 * len(PIECE), has)


async def test_all_has_arrived_once_a_client_has_read_it() -> None:
    async with connected() as (transport, client):
        transport.write(b"x" * 1000)
        await until(lambda: transport.count_under_way() == 0, "it is acknowledged")
        assert len(client.recv(2000)) == 1000
        transport.settle()
        assert transport.arrived == 1000


def test_on_a_socket_that_is_closed_nothing_can_be_asked_and_only_the_buffer_counts() -> None:
    wire = Wire()
    transport = CountedTransport(wire)
    transport.write(PIECE)
    wire.buffered = 6
    assert transport.count_under_way() == 6


def test_the_first_word_on_the_end_counts_and_an_abort_has_it_before_the_buffer_is_thrown_away() -> None:
    wire = Wire()
    transport = CountedTransport(wire)
    transport.write(PIECE)
    wire.buffered = 1000
    transport.abort()
    transport.settle()
    assert transport.arrived == len(PIECE) - 1000


# The outbox.


def test_a_frame_that_is_written_at_once_is_noted_with_its_mark() -> None:
    rig = Rig()
    rig.send(1)
    first = rig.transport.written
    rig.send(2)
    assert [rig.get_sequence(count) for count in (first - 1, first, rig.transport.written)] == [0, 1, 2]


def test_a_frame_that_waits_is_noted_when_it_is_written_and_not_before() -> None:
    rig = Rig()
    rig.outbox.pause()
    rig.send(1)
    rig.send(2)
    rig.outbox.note()
    assert (rig.transport.written, rig.get_sequence()) == (0, 0)
    rig.outbox.resume()
    half = rig.transport.written // 2
    assert [rig.get_sequence(count) for count in (half - 1, half, 2 * half)] == [0, 1, 2]


def test_what_was_conflated_counts_only_when_all_of_it_is_written() -> None:
    rig = Rig(limit_events=8)
    rig.outbox.pause()
    for sequence in range(1, 6):
        rig.send(sequence, "Q")
    assert rig.outbox.is_conflating and rig.get_sequence() == 0
    rig.outbox.resume()
    assert rig.get_sequence(rig.transport.written - 1) == 0
    assert rig.get_sequence() == 5


def test_of_conflated_events_in_two_frames_each_moves_the_position_to_its_last_batch() -> None:
    rig = Rig(limit_events=8)
    rig.outbox.pause()
    for sequence in (1, 2, 3):
        rig.send(sequence, "Q", symbol=f"A{sequence}", padding="x" * 40_000)
    rig.wire.after_write = rig.outbox.pause
    rig.outbox.resume()
    assert rig.transport.written > 80_000 and rig.get_sequence() == 2
    rig.outbox.resume()
    assert rig.get_sequence() == 3


def test_conflated_events_count_though_whole_frames_still_wait_behind_them() -> None:
    rig = Rig(limit_events=40)
    rig.outbox.pause()
    for sequence in range(1, 12):
        rig.send(sequence, "Q")
    rig.wire.after_write = rig.outbox.pause
    rig.outbox.resume()
    assert rig.get_sequence() == 4
    rig.outbox.resume()
    assert rig.get_sequence() == 5


def test_a_batch_without_events_for_the_client_moves_its_position_too_unless_something_waits() -> None:
    rig = Rig()
    rig.mark = make_mark(3)
    rig.outbox.note()
    assert rig.get_sequence() == 3
    rig.outbox.pause()
    rig.send(4)
    rig.mark = make_mark(5)
    rig.outbox.note()
    assert rig.get_sequence() == 3
    rig.outbox.flush()
    assert rig.get_sequence() == 5


def test_what_waits_at_the_close_was_never_sent() -> None:
    rig = Rig()
    rig.send(1)
    rig.outbox.pause()
    rig.send(2)
    rig.outbox.close()
    rig.send(3)
    rig.outbox.note()
    rig.outbox.send_missed(b"late", make_mark(9), LIVE)
    assert rig.get_sequence() == 1


def test_the_position_at_the_close_is_the_last_mark_if_nothing_waits() -> None:
    rig = Rig()
    rig.send(1)
    rig.mark = make_mark(2)
    rig.outbox.close()
    rig.mark = make_mark(3)
    assert rig.get_sequence() == 2


async def test_whoever_waits_for_a_writable_outbox_waits_while_it_is_paused_and_not_beyond_its_close() -> None:
    for end in (CountedOutbox.resume, CountedOutbox.close):
        rig = Rig()
        await rig.outbox.until_writable()
        rig.outbox.pause()
        waits = asyncio.create_task(rig.outbox.until_writable())
        await asyncio.sleep(0)
        assert not waits.done()
        end(rig.outbox)
        await asyncio.wait_for(waits, 1)


def test_what_was_missed_moves_its_lane_and_joining_makes_the_lane_live() -> None:
    rig = Rig()
    lane = rig.receipt.open_lane(make_mark(0), ["T.A"])
    rig.outbox.send_missed(b"missed", make_mark(4), lane)
    assert (rig.get_sequence(), rig.receipt.lanes[lane].position) == (0, make_mark(4))
    rig.mark = make_mark(6)
    rig.outbox.join(make_mark(6), lane)
    assert rig.get_sequence() == 6
    assert rig.receipt.lanes[LIVE].channels == {"T.A"}


def test_at_the_end_the_receipt_says_what_arrived() -> None:
    rig = Rig()
    rig.send(1)
    rig.wire.buffered = 1
    assert rig.outbox.is_under_way()
    rig.outbox.end(None, has_said_goodbye=False)
    assert rig.outbox.is_settled and rig.receipt.lanes[LIVE].position == make_mark(0)


async def test_an_outbox_that_finishes_takes_no_more_and_waits_for_what_is_under_way() -> None:
    rig = Rig()
    rig.send(1)
    rig.wire.buffered = 1
    finishing = asyncio.create_task(rig.outbox.finish())
    await asyncio.sleep(0)
    rig.send(2)
    assert not finishing.done()
    rig.wire.buffered = 0
    await finishing
    assert rig.outbox.is_settled and rig.receipt.lanes[LIVE].position == make_mark(1)


def test_a_client_that_said_goodbye_and_then_read_our_close_frame_has_everything() -> None:
    rig = Rig()
    rig.send(1)
    rig.outbox.end(None, has_said_goodbye=True)
    assert rig.outbox.is_settled and rig.receipt.lanes[LIVE].position == make_mark(1)


@pytest.mark.parametrize(("exc", "under_way"), [(None, 1), (RESET, 0)])
def test_of_a_client_that_said_goodbye_and_read_no_more_only_the_last_confirmed_position_counts(
    exc: Exception | None, under_way: int
) -> None:
    rig = Rig()
    rig.send(1)
    rig.wire.buffered = under_way
    rig.outbox.end(exc, has_said_goodbye=True)
    assert not rig.outbox.is_settled and rig.receipt.lanes[LIVE].position == make_mark(0)


def test_of_a_connection_that_was_reset_only_the_last_confirmed_position_counts() -> None:
    rig = Rig()
    rig.send(1)
    rig.outbox.end(RESET, has_said_goodbye=False)
    assert not rig.outbox.is_settled and rig.receipt.lanes[LIVE].position == make_mark(0)
