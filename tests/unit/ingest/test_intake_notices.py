"""What ingest tells clients, told in the middle of a frame: the batch before it is a good one, and complete."""

import json

import hiredis

from ingest.intake import Intake
from shared.notice import make_gap
from tests.unit.ingest.test_intake import NAMES, Printer

ACK = b'{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}'
TRADE = b'{"ev":"T","sym":"AAPL","q":1}'
UNROUTABLE = b'{"ev":"T","p":1}'


async def test_notice_told_on_an_ack_comes_after_the_events_before_it_and_every_command_is_whole() -> None:
    """As when the ack settles the last channel after a loss; the same frame holds an event without a symbol."""
    for frame in ([ACK, TRADE], [TRADE, ACK], [UNROUTABLE, ACK, TRADE], [ACK, UNROUTABLE], [ACK, TRADE, UNROUTABLE]):
        publisher = Printer()
        intake = Intake(NAMES, publisher, 7, lambda _status: None)
        gap = make_gap(1, 2, "test", ["T.AAPL"])
        intake._on_status = lambda _status, intake=intake, gap=gap: intake.tell(gap)  # type: ignore[misc]
        intake.take(b"[" + b",".join(frame) + b"]")
        intake.flush()
        commands = []
        reader = hiredis.Reader()
        for batch in publisher.batches:
            reader.feed(batch.published)
            while (command := reader.gets()) is not False:
                commands.append(command)
        assert all(len(command) == 3 and command[0] == b"PUBLISH" for command in commands), frame
        events = [event for _, channel, text in commands if channel == b"T.AAPL" for event in json.loads(text)]
        assert events == [json.loads(TRADE)] * (TRADE in frame)
        assert [channel for _, channel, _ in commands].count(NAMES.notices.encode()) == 1
        assert intake.malformed == (UNROUTABLE in frame)
        assert [batch.mark.sequence for batch in publisher.batches] == list(range(1, len(publisher.batches) + 1))
        assert [batch.replies for batch in publisher.batches] == [
            2 + batch.published.count(b"PUBLISH\r\n") for batch in publisher.batches
        ]
