"""`polygon-proxy tail` as a program, against a small server that speaks Polygon's protocol."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from shared import cli
from shared.config import load

ROOT = Path(__file__).parents[3]
CONNECTED = '[{"ev":"status","status":"connected","message":"Connected Successfully"}]'
AUTHENTICATED = '[{"ev":"status","status":"auth_success","message":"authenticated"}]'
REFUSED = '[{"ev":"status","status":"auth_failed","message":"authentication failed"}]'
ACK = '[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}]'
TRADE = '{"ev":"T", "sym":"AAPL","p":4.522e-05,"q":1757000000000000001,"x":"status"}'
QUOTE = '{"p":1.10,"ev":"Q","sym":"A\\u00e9"}'


class Gateway:
    """Answers like one; ends each connection after its events unless told to stay."""

    def __init__(self, key: str, frames: list[str], *, stays: bool = True) -> None:
        self.actions: list[dict[str, str]] = []
        self.connections = 0
        self._key = key
        self._frames = frames
        self._stays = stays

    async def converse(self, connection: ServerConnection) -> None:
        self.connections += 1
        await connection.send(CONNECTED)
        auth = await self._read(connection)
        if auth["params"] != self._key:
            await connection.send(REFUSED)
            return
        await connection.send(AUTHENTICATED)
        await self._read(connection)
        for frame in (ACK, *self._frames):
            await connection.send(frame)
        if self._stays:
            await connection.wait_closed()
        await connection.close(1012)

    async def _read(self, connection: ServerConnection) -> dict[str, str]:
        self.actions.append(msgspec.json.decode(await connection.recv(), type=dict[str, str]))
        return self.actions[-1]


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[int]:
    async with serve(gateway.converse, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def tailing(directory: Path, port: int, *args: str, **environ: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shared.cli", "tail", *args),
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PROXY_STOCKS_PORT": str(port), "RECONNECT_DELAY_MS": "50"} | environ,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    async with asyncio.timeout(15):
        return (await stream.readline()).decode()


async def get_exit_code(process: Process) -> int:
    async with asyncio.timeout(15):
        return await process.wait()


async def test_prints_the_bytes_of_each_event_on_a_line_and_statuses_beside(tmp_path: Path) -> None:
    gateway = Gateway("tail", [f"[{TRADE},{QUOTE}]", '[{"ev":"T",\n"sym":"B"\r\n}]'])
    async with serving(gateway) as port, tailing(tmp_path, port, "T.AAPL,Q.AAPL", "T.B") as process:
        assert await read_line(process.stdout) == f"{TRADE}\n"
        assert await read_line(process.stdout) == f"{QUOTE}\n"
        assert await read_line(process.stdout) == '{"ev":"T", "sym":"B"  }\n'
        statuses = [await read_line(process.stderr) for _ in range(3)]
        assert statuses == [
            "connected: Connected Successfully\n",
            "auth_success: authenticated\n",
            "success: subscribed to: T.AAPL\n",
        ]
        process.send_signal(signal.SIGINT)
        assert await get_exit_code(process) == 130
        assert process.stderr is not None and await process.stderr.read() == b""
    assert gateway.actions == [
        {"action": "auth", "params": "tail"},
        {"action": "subscribe", "params": "T.AAPL,Q.AAPL,T.B"},
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"POLYGON_API_KEY": "key-1"},
        {"PROXY_API_KEYS": "key-1,key-2"},
        {"POLYGON_API_KEY": "key-1", "PROXY_API_KEYS": "key-2"},
    ],
)
async def test_shows_the_configured_key(environ: dict[str, str], tmp_path: Path) -> None:
    async with (
        serving(Gateway("key-1", [f"[{TRADE}]"])) as port,
        tailing(tmp_path, port, "T.AAPL", **environ) as process,
    ):
        assert await read_line(process.stdout) == f"{TRADE}\n"


async def test_refused_key_exits_1_without_showing_it(tmp_path: Path) -> None:
    gateway = Gateway("right", [])
    async with (
        serving(gateway) as port,
        tailing(tmp_path, port, "T.AAPL", POLYGON_API_KEY="sekret-wrong") as process,
    ):
        assert await get_exit_code(process) == 1
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
    assert "the key was refused (authentication failed)" in said
    assert "sekret" not in said
    assert gateway.connections == 1


async def test_connects_again_and_says_so(tmp_path: Path) -> None:
    gateway = Gateway("tail", [f"[{TRADE}]"], stays=False)
    async with serving(gateway) as port, tailing(tmp_path, port, "T.AAPL") as process:
        for _ in range(3):
            assert await read_line(process.stdout) == f"{TRADE}\n"
        said = [await read_line(process.stderr) for _ in range(4)]
    assert said[3].startswith(f"ws://127.0.0.1:{port}/stocks: ")
    assert "trying again in 0.0 s" in said[3] or "trying again in 0.1 s" in said[3]
    assert gateway.connections >= 3


async def test_waits_for_a_proxy_that_is_not_up_and_hides_the_query(tmp_path: Path) -> None:
    async with serving(Gateway("tail", [])) as port:
        pass
    async with tailing(tmp_path, 1, "T.AAPL", "--url", f"ws://127.0.0.1:{port}/stocks?apiKey=sekret") as process:
        for _ in range(2):
            line = await read_line(process.stderr)
            assert line.startswith(f"ws://127.0.0.1:{port}/stocks: nobody listens there yet; ")
            assert "sekret" not in line


async def test_ends_quietly_when_nobody_reads_any_more(tmp_path: Path) -> None:
    frames = [f"[{','.join([TRADE] * 1000)}]"] * 20  # more than a pipe holds
    async with serving(Gateway("tail", frames)) as port:
        read_end, write_end = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shared.cli", "tail", "T.AAPL"),
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PROXY_STOCKS_PORT": str(port)},
            stdout=write_end,
            stderr=PIPE,
        )
        os.close(write_end)
        assert (await asyncio.to_thread(os.read, read_end, 10)).startswith(b'{"ev":"T"')
        os.close(read_end)
        assert await get_exit_code(process) == 0
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
    assert "rror" not in said and "Traceback" not in said


async def test_refuses_a_bad_url_and_a_bad_configuration(tmp_path: Path) -> None:
    async with tailing(tmp_path, 1, "T.AAPL", "--url", "http://h") as process:
        assert await get_exit_code(process) == 2
    async with tailing(tmp_path, 0, "T.AAPL") as process:
        assert await get_exit_code(process) == 2
        assert "PROXY_STOCKS_PORT='0'" in await read_line(process.stderr)


def test_no_option_takes_a_key() -> None:
    assert {parameter.name for parameter in cli.tail.params} == {"channels", "url"}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "ws://127.0.0.1:8765/stocks"),
        ("0.0.0.0", "ws://127.0.0.1:8765/stocks"),
        ("::", "ws://[::1]:8765/stocks"),
        ("::1", "ws://[::1]:8765/stocks"),
        ("proxy.example", "ws://proxy.example:8765/stocks"),
    ],
)
def test_default_url_is_where_one_can_connect(host: str, url: str) -> None:
    assert cli.get_url(load({"PROXY_HOST": host})) == url


def test_event_that_mentions_status_is_no_status() -> None:
    assert list(cli.read_frame(f"[{TRADE}]")) == [(TRADE.encode(), None)]


@pytest.mark.parametrize("frame", ["", "{", '{"ev":"T"}', '[{"ev":"status","status":1}]', b"\xff"])
def test_frame_that_is_no_array_of_events_is_refused(frame: str | bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        list(cli.read_frame(frame))
