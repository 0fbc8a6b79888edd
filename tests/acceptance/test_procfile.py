"""The Procfile's processes as `make run` starts them, with the simulated feed: what one sees, and how it ends."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.ports import find_free_port
from tests.processes import ROOT, Process, python, until
from tests.redis_state import RedisState, running_redis
from tests.subscriber import Subscriber

PORT_VARIABLE = "PROXY_STOCKS_PORT"
AS_MAKE_RUN = ("start", "--env", "/dev/null", "-c", "bus=1,ingest=1,gateway=2")
FOUR_GATEWAYS = ("start", "-c", "gateway=4")


def make_project(directory: Path) -> Path:
    """A checkout as one would have it, its .venv the one that runs these tests; without the user's own .env."""
    project = directory / "project"
    venv = project / ".venv"
    venv.mkdir(parents=True)
    for name in ("Makefile", "Procfile", "pyproject.toml", "ingest", "gateway", "shared"):
        (project / name).symlink_to(ROOT / name)
    for name in ("bin", "lib", "pyvenv.cfg"):
        if (path := Path(sys.prefix, name)).exists():
            (venv / name).symlink_to(path)
    (venv / ".runnable").touch()
    return project


class Running:
    """honcho or make, and all that it started."""

    def __init__(self, process: Process, port: int, environ: dict[str, str]) -> None:
        self.process = process
        self.port = port
        self.environ = environ
        self.url = f"ws://127.0.0.1:{port}/stocks"

    def find_pids(self) -> set[int]:
        """Every process that was born with our port in its environment, also one that honcho knows no more."""
        mark = f"{PORT_VARIABLE}={self.port}".encode()
        return {pid for pid, environ in read_environs() if mark in environ.split(b"\0")}

    async def until_up(self, gateways: int) -> None:
        def is_up() -> bool:
            return self.process.output.count("clients connect to") == gateways and "upstream: live" in self.output

        await until(is_up, f"{gateways} gateways and the feed", (self.process,), 30)

    @property
    def output(self) -> str:
        return self.process.output

    async def interrupt(self) -> int:
        """Ctrl-C: INT to the whole group, as a terminal sends it; the exit status, within 5 s."""
        os.killpg(self.process.pid, signal.SIGINT)
        return await self.process.wait(5.0)


def read_environs() -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            yield int(path.parent.name), path.read_bytes()
        except OSError:
            continue  # ended meanwhile, or not ours


@asynccontextmanager
async def running(directory: Path, command: list[str], **environ: str) -> AsyncIterator[Running]:
    """The command in a fresh project; whatever it leaves behind is killed."""
    port = find_free_port()
    environ = {PORT_VARIABLE: str(port), "ENABLE_METRICS": "false"} | environ
    process = await Process.start(command, make_project(directory), environ, name="honcho")
    started = Running(process, port, environ)
    try:
        yield started
    finally:
        for pid in started.find_pids() - {process.pid}:
            os.kill(pid, signal.SIGKILL)
        await process.end()


def honcho(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "honcho", *arguments]


async def check_end(running: Running, statuses: tuple[int, ...] = (0, 130, -signal.SIGINT)) -> None:
    """Ctrl-C ends all of it within 5 s, cleanly."""
    assert len(running.find_pids()) >= 4
    assert await running.interrupt() in statuses
    assert running.find_pids() == set()
    assert "Traceback" not in running.output and "KeyboardInterrupt" not in running.output
    assert "SIGKILL" not in running.output


async def check_clients(running: Running, directory: Path) -> None:
    """Both official clients and `polygon-proxy tail` see trades and quotes within seconds."""
    where = f"127.0.0.1:{running.port}"
    channels = ("T.AAPL", "Q.AAPL", "A.AAPL")
    commands = {
        package: python("tests.official_client", package, where, "any-key", *channels)
        for package in ("massive", "polygon")
    } | {"tail": [sys.executable, "-c", "from shared.cli import main; main()", "tail", "T.AAPL,Q.AAPL"]}
    clients = [await Process.start(c, directory, running.environ, name=name) for name, c in commands.items()]
    try:
        for client in clients[:2]:
            await until(lambda c=client: has_models(c), "trades, quotes and bars", (client,), 20)  # type: ignore[misc]
        await until(lambda: has_events(clients[2]), "lines of events", (clients[2],), 20)
    finally:
        for client in clients:
            await client.end()


def has_models(client: Process) -> bool:
    models = {json.loads(line)[0] for line in whole_lines(client) if line.startswith("[")}  # beside the library's log
    return models >= {"EquityTrade", "EquityQuote", "EquityAgg"}


def has_events(tail: Process) -> bool:
    events = [json.loads(line) for line in whole_lines(tail) if line.startswith("{")]
    return {(event["ev"], event["sym"]) for event in events} == {("T", "AAPL"), ("Q", "AAPL")}


def whole_lines(process: Process) -> list[str]:
    return process.output.rpartition("\n")[0].splitlines()


async def hear_trade(redis: RedisState) -> str:
    """What `redis-cli SUBSCRIBE T.AAPL` shows first."""
    async with redis.client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("T.AAPL")
        async with asyncio.timeout(20):
            while (message := await pubsub.get_message(timeout=1.0)) is None:
                pass
        return str(message["data"].decode())


async def test_newcomer_sees_data_with_every_client_and_ctrl_c_ends_it_all(tmp_path: Path) -> None:
    async with running_redis() as redis:
        async with running(tmp_path, honcho(*AS_MAKE_RUN), REDIS_URL=redis.url) as started:
            await started.until_up(gateways=2)
            assert "SIMULATED FEED" in started.output
            assert f"clients connect to {started.url}" in started.output
            await check_clients(started, tmp_path)
            client = await Subscriber.join(started.url, "T.AAPL", key="any-key")
            [event, *_] = json.loads(await hear_trade(redis))
            assert (event["ev"], event["sym"]) == ("T", "AAPL")
            assert (await redis.get_refcount())["T.AAPL"] in (1, 2)
            await check_end(started)
            assert await client.until_closed() == 1012
        assert await redis.get_refcount() == {}


async def test_four_gateways_share_one_port_and_a_client_notices_nothing(tmp_path: Path) -> None:
    async with running_redis() as redis, running(tmp_path, honcho(*FOUR_GATEWAYS), REDIS_URL=redis.url) as started:
        await started.until_up(gateways=4)
        clients = [await Subscriber.join(started.url, "T.AAPL", key="any-key") for _ in range(16)]
        for client in clients:
            await client.until_events(1)
        assert len({lease["pid"] for lease in await redis.get_leases()}) == 4
        await check_end(started)


async def test_make_run_is_the_same(tmp_path: Path) -> None:
    async with (
        running_redis() as redis,
        running(tmp_path, ["make", "run", "GATEWAYS=1"], REDIS_URL=redis.url) as started,
    ):
        await started.until_up(gateways=1)
        client = await Subscriber.join(started.url, "T.AAPL", key="any-key")
        await client.until_events(1)
        await check_end(started, statuses=(0, 2, 130, -signal.SIGINT))


async def test_bad_value_ends_all_with_one_plain_line_each(tmp_path: Path) -> None:
    async with running(tmp_path, honcho(*AS_MAKE_RUN), MAX_CLIENTS="many", REDIS_URL="redis://127.0.0.1:1") as started:
        assert await started.process.wait(20) == 2
        assert "MAX_CLIENTS='many': expected a number from 1" in started.output
        assert "Traceback" not in started.output
        assert started.find_pids() == set()


async def test_fakeredis_carries_the_whole_pipeline_where_no_redis_is_installed(tmp_path: Path) -> None:
    port = find_free_port()
    environ = {"REDIS_URL": f"redis://127.0.0.1:{port}", PORT_VARIABLE: str(find_free_port()), "ENABLE_METRICS": "no"}
    start = Process.start
    bus = await start(python("shared.private_bus", "--port", str(port)), tmp_path, {"PATH": "/nowhere"}, name="bus")
    processes = [bus]
    try:
        await until(lambda: "fakeredis at" in bus.output, "fakeredis says so", (bus,), 20)
        processes += [await start(python(module), tmp_path, environ, name=module) for module in ("ingest", "gateway")]
        await until(lambda: "clients connect to" in processes[2].output, "the gateway listens", processes, 20)
        url = f"ws://127.0.0.1:{environ[PORT_VARIABLE]}/stocks"
        exact = await Subscriber.join(url, "T.AAPL", "Q.AAPL", key="any-key")
        whole = await Subscriber.join(url, "T.*", key="any-key")
        await exact.until_events(5)
        await whole.until_events(50)
        assert {json.loads(event)["sym"] for event in exact.events} == {"AAPL"}
        assert len(whole.events) == len(set(whole.events))
        for process in reversed(processes):
            assert await process.stop() == 0
            assert "Traceback" not in process.output
    finally:
        for process in processes:
            await process.end()
