"""The commands that ask ingest: what they take for an event, what they refuse, and how they end."""

import asyncio
from typing import Any, cast

import pytest
from click.testing import CliRunner

from shared import cli, config
from shared.cli_inject import make_chunks, read_events
from shared.cli_replay import play
from shared.cli_test import make_absolute
from shared.control import MAX_REQUEST_BYTES, BadRequest, NotDone, parse_request
from shared.indicator import Indicator, decode_indicator, encode_indicator, make_indicator_status

ID = "0" * 32


def test_each_line_is_an_event_or_a_frame_and_its_bytes_stay() -> None:
    lines = [b'{"a": 1.50}\n', b"\n", b'[{"b":1} , { "c":2e0}]\r\n', b"7\n", b"[]\n"]
    assert list(read_events(lines)) == [b'{"a": 1.50}', b'{"b":1}', b'{ "c":2e0}', b"7"]


@pytest.mark.parametrize("line", [b'[{"a":1}', b"whatever", b'{"a":', b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_json_is_refused_with_its_number(line: bytes) -> None:
    with pytest.raises(NotDone, match=r"^line 2: "):
        list(read_events([b"{}", line]))


def test_chunks_are_bounded_in_events_and_bytes() -> None:
    assert [len(chunk) for chunk in make_chunks([b"x"] * 7, 3)] == [3, 3, 1]
    assert [len(chunk) for chunk in make_chunks([b"x" * 100_000] * 3, 500)] == [1, 1, 1]


@pytest.mark.parametrize(
    "words",
    [
        ["test", "volume", "11"],
        ["test", "speed"],
        ["inject"],
        ["inject", "{}", "--file", "x"],
        ["inject", "{}", "--rate", "0"],
        ["replay"],
        ["replay", "x", "--speed", "quick"],
        ["replay", "x", "--speed", "0"],
        ["replay", "x", "--from", "9:30"],
    ],
)
def test_a_misuse_ends_with_2(words: list[str]) -> None:
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 2 and "Usage:" in result.output


@pytest.mark.parametrize("name", ["test", "inject", "replay"])
def test_each_command_says_what_it_does(name: str) -> None:
    result = CliRunner().invoke(cli.main, [name, "--help"])
    assert result.exit_code == 0 and "Usage:" in result.output


def test_a_path_is_made_absolute_and_a_name_is_not(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert make_absolute("halt") == "halt"
    assert make_absolute("HALT") == "HALT"
    assert make_absolute("mine.toml") == f"{tmp_path}/mine.toml"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"id":"x","command":"status"}',
        b'{"id":"%b","command":7}' % ID.encode(),
        b'{"id":"%b","command":"status","args":[]}' % ID.encode(),
        b'{"id":"../../%b","command":"status"}' % ID.encode(),
        b"\xff\xfe",
        b"[" * 5000,
        b'{"id":"%b","command":"status","args":{"a":"%b"}}' % (ID.encode(), b"x" * MAX_REQUEST_BYTES),
    ],
)
def test_what_is_no_request_or_too_long_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_request(text)


def test_a_request_has_a_name_and_arguments() -> None:
    request = parse_request(b'{"id":"%b","command":"speed","args":{"value":"2"}}' % ID.encode())
    assert (request.command, request.args) == ("speed", {"value": "2"})


def test_one_variable_can_be_checked_alone() -> None:
    assert config.check("TEST_SPEED", "2.5") == 2.5
    with pytest.raises(config.ConfigError, match=r"^TEST_SPEED='fast': expected a factor"):
        config.check("TEST_SPEED", "fast")


def test_the_indicator_names_some_symbols_and_says_when_it_is_stopped() -> None:
    symbols = tuple(f"S{number}" for number in range(25))
    text = make_indicator_status(Indicator("mixed", "halt", symbols, enabled=False)).message
    assert text.startswith("this is test data: mode mixed, scenario halt, simulated symbols: S0,S1,")
    assert text.endswith("S19 and 5 more; stopped")
    assert make_indicator_status(Indicator("mixed", "normal")).message.endswith("simulated symbols: none")


@pytest.mark.parametrize("indicator", [None, Indicator("mixed", "halt", ("A",), enabled=False)])
def test_an_indicator_is_read_as_it_was_written(indicator: Indicator | None) -> None:
    assert decode_indicator(encode_indicator(indicator)) == indicator


def test_an_indicator_of_an_unknown_shape_is_none() -> None:
    assert decode_indicator(b"[]") is None and decode_indicator(b"x") is None and decode_indicator(None) is None


class Ingest:
    """Plays for some looks, then for ever what it played before; or fails; if it is slow it plays, but says nothing."""

    def __init__(self, looks: int, finished: str = "", *, is_slow: bool = False) -> None:
        self.looks = looks
        self.is_slow = is_slow
        self.finished = finished
        self.asked: list[str] = []
        self._ident = ""

    async def ask(self, command: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        self.asked.append(command)
        if command == "replay":
            assert args is not None
            self._ident = args["id"]
            if self.is_slow:
                raise NotDone("ingest has not answered within 5 s")
        elif not self.looks:
            raise NotDone("no ingest is running")
        self.looks -= command == "status"
        playing = self._ident if self.looks else ""
        over = {"speed": 1.0, "symbols": [], "enabled": True, "over": False, "finished": self.finished}
        return {"mode": "replay" if playing else "simulated", "scenario": "x", "replay": playing, **over}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.cli_replay._LOOK_EVERY_S", 0.001)


async def test_a_replay_is_watched_until_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    ingest = Ingest(looks=3, finished="a1")
    await play(cast(Any, ingest), "a1", {})
    assert ingest.asked == ["replay", "status", "status", "status"]
    assert "over; now simulated, scenario x" in capsys.readouterr().out


async def test_a_replay_that_vanished_is_not_over() -> None:
    with pytest.raises(NotDone, match=r"ended before its end: .* now simulated, scenario x, speed 1, own symbols"):
        await play(cast(Any, Ingest(looks=3, finished="b2")), "a1", {})


async def test_a_replay_that_ingest_has_not_answered_yet_is_stopped() -> None:
    ingest = Ingest(looks=1_000_000, is_slow=True)
    with pytest.raises(NotDone, match="not answered"):
        await play(cast(Any, ingest), "a1", {})
    assert ingest.asked == ["replay", "stop"]


async def test_a_replay_that_is_interrupted_is_stopped() -> None:
    ingest = Ingest(looks=1_000_000)
    task = asyncio.create_task(play(cast(Any, ingest), "a1", {}))
    while len(ingest.asked) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ingest.asked[-1] == "stop"
