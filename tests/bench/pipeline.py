"""All of the benchmark's processes, started in order on loopback ports of their own, and ended whatever happens."""

import json
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from shared.names import Names
from tests.bench.latency import add_histograms, parse_histogram
from tests.bench.process import BenchError, Process, python, read_machine_cpu_s, wait_for

_KEY = "bench-dummy-key"
_START_S = 20.0
_CONNECT_S = 60.0
_SNAPSHOT_S = 10.0  # gateways write their statistics every 2 s or so
_FLUSH_S = 20.0  # for the fake to get rid of what it has sent
_CATCH_UP_S = 10.0  # and for the clients to have all of it then


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked of the pipeline."""

    rate: int  # events/s that the fake sends over all channels, those that nobody holds included
    symbols: int
    clients: int
    per_client: int  # symbols
    gateways: int
    groups: int  # different sets of channels among the clients
    wildcards: bool  # each client holds T.* and Q.* instead


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything cumulative, at one moment."""

    at: float  # time.monotonic
    cpu_s: dict[str, float]  # by process name
    machine_cpu_s: float  # of all that runs on this machine
    latency: dict[float, int]  # of all gateways
    fake_lines: list[dict[str, Any]]  # one a second: sent, rate, late


class Pipeline:
    """`with Pipeline(...) as pipeline`: ready for the measurement inside, nothing left running after."""

    def __init__(self, settings: Settings) -> None:
        self.processes: dict[str, Process] = {}  # by name, in the order of their start
        self._settings = settings
        self._temporary = tempfile.TemporaryDirectory(prefix="polygon-proxy-bench-")
        self._directory = Path(self._temporary.name)
        self._names = Names("stocks")
        self._redis_port, self._fake_port, self._port, *self._metrics_ports = find_free_ports(4 + settings.gateways)
        self._url = f"ws://127.0.0.1:{self._port}/stocks"
        self.redis = Redis(port=self._redis_port, socket_timeout=5)

    def __enter__(self) -> Self:
        try:
            self._start_upstream()
            self._start_product()
            self._start_load()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def gateway_names(self) -> list[str]:
        return [name for name in self.processes if name.startswith("gateway")]

    def mark(self) -> Snapshot:
        """A snapshot, for which the gateways' next statistics are awaited; the load notes its counts as well."""
        before = self._read_latency()
        latency = wait_for(
            lambda: now if (now := self._read_latency()) != before else {},
            _SNAPSHOT_S,
            "new latency_us of the gateways",
            list(self.processes.values()),
        )
        self.processes["load"].send(signal.SIGUSR1)
        cpu_s = {name: process.read_cpu_s() for name, process in self.processes.items()}
        return Snapshot(time.monotonic(), cpu_s, read_machine_cpu_s(), latency, self._read_fake_lines())

    def run(self, seconds: float) -> None:
        """Let it run; BenchError as soon as a process ends."""
        end = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() >= end, seconds + 5, "end", list(self.processes.values()))

    def finish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The reports of probe and load, once upstream has ended and the clients have all of it, or too late."""
        self._stop("probe", _FLUSH_S)
        self._stop("fake", _FLUSH_S)
        load = self.processes["load"]
        wait_for(lambda: not load.is_running, _CATCH_UP_S + 10, "end of the load")
        return json.loads((self._directory / "probe.json").read_bytes()), self._read_load_report()

    def _start_upstream(self) -> None:
        place = ("--dir", str(self._directory), "--port", str(self._redis_port), "--bind", "127.0.0.1")
        self._start("redis", ["redis-server", *place, "--save", "", "--appendonly", "no"])
        self._wait("answer of redis", self._is_redis_up)
        options = ("--port", self._fake_port, "--rate", self._settings.rate, "--symbols", self._settings.symbols)
        self._start("fake", python("tests.fakes.polygon", *options, "--report", self._directory / "fake.json"))
        self._wait("open port of the fake", lambda: is_open(self._fake_port))

    def _start_product(self) -> None:
        ingest_port, *gateway_ports = self._metrics_ports
        self._start("ingest", python("ingest"), self.get_environment(ingest_port))
        for index, port in enumerate(gateway_ports, 1):
            self._start(f"gateway {index}", python("gateway"), self.get_environment(port))
        self._wait("open port of the gateway", lambda: is_open(self._port))
        self._wait("lease of each gateway", lambda: len(self._read_leases()) == self._settings.gateways)

    def _start_load(self) -> None:
        wanted = self._settings
        sizes = ("--clients", wanted.clients, "--symbols", wanted.symbols, "--per-client", wanted.per_client)
        which = ("--groups", wanted.groups, *(("--all",) if wanted.wildcards else ()))
        ends = ("--until", self._directory / "fake.json", "--deadline-s", _CATCH_UP_S, "--connect-s", _CONNECT_S)
        to = ("--url", self._url, "--key", _KEY)
        report = ("--report", self._directory / "load.json")
        load = self._start("load", python("tests.load", *to, *sizes, *which, *ends, *report))
        self._wait("acks of all clients", lambda: "ready" in load.read_lines(), _CONNECT_S + 5)
        report = ("--report", self._directory / "probe.json")
        probe = self._start("probe", python("tests.bench.probe", *to, "--held", self._find_held(), *report))
        self._wait("first probe", probe.read_lines)

    def _start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Process:
        self.processes[name] = Process(name, command, self._directory, env)
        return self.processes[name]

    def _wait(self, what: str, fact: Any, within_s: float = _START_S) -> None:
        wait_for(fact, within_s, what, list(self.processes.values()))

    def _stop(self, name: str, within_s: float) -> None:
        if not self.processes[name].stop(within_s):
            raise BenchError(f"did not stop: {self.processes[name].describe_end()}")

    def _end(self) -> None:
        """The other way round: clients first, the bus last."""
        try:
            for process in reversed(self.processes.values()):
                process.stop(5)
        finally:
            for process in self.processes.values():
                process.kill()
            self.redis.close()
            self._temporary.cleanup()

    def get_environment(self, metrics_port: int) -> dict[str, str]:
        return {
            "POLYGON_API_KEY": _KEY,
            "POLYGON_WS_URL": f"ws://127.0.0.1:{self._fake_port}/stocks",
            "REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0",
            "PROXY_HOST": "127.0.0.1",
            "PROXY_STOCKS_PORT": str(self._port),
            "METRICS_PORT": str(metrics_port),
            "MAX_CLIENTS": str(self._settings.clients + 100),
            "ENABLE_TEST_MODE": "false",
            "LOG_LEVEL": "info",
        }

    def _is_redis_up(self) -> bool:
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False

    def _find_held(self) -> str:
        """An exact channel that the clients hold; with wildcards one that `T.*` covers."""
        refcounts: dict[bytes, bytes] = self.redis.hgetall(self._names.refcount)  # type: ignore[assignment]
        exact = sorted(channel.decode() for channel in refcounts if not channel.endswith(b"*"))
        return exact[0] if exact else "T.S0000"

    def _read_leases(self) -> list[dict[bytes, bytes]]:
        ids: Any = self.redis.smembers(self._names.gateways)
        leases: list[Any] = [self.redis.hgetall(self._names.get_lease(one.decode())) for one in sorted(ids)]
        return [lease for lease in leases if lease]

    def _read_latency(self) -> dict[float, int]:
        return add_histograms(parse_histogram(lease.get(b"latency_us", b"{}")) for lease in self._read_leases())

    def _read_fake_lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.processes["fake"].read_lines() if line.startswith("{")]
        return [line for line in lines if "rate" in line]

    def _read_load_report(self) -> dict[str, Any]:
        try:
            report: dict[str, Any] = json.loads((self._directory / "load.json").read_bytes())
        except FileNotFoundError:
            raise BenchError(self.processes["load"].describe_end()) from None
        return report


def find_free_ports(count: int) -> list[int]:
    """Loopback ports that are free now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def is_open(port: int) -> bool:
    """Whether something accepts there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
