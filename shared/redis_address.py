"""Where Redis is: at the one address in REDIS_URL, or wherever the sentinels in it say that the master is now.

    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/MASTER_NAME[/DB]

Theory.  A master that was replaced by `SENTINEL FAILOVER`, or that comes back after it was replaced, stays a master for
some 10 s more (measured, Redis 7.0): only then do the sentinels demote it and cut its clients off.  Who connects in
between goes to the new one, so an ingest at the old and a gateway at the new would not hear each other.  Hence nobody
waits for the cut: the sentinels are asked again every FOLLOW_S, and who is connected elsewhere leaves.  While no
sentinel answers, everybody stays where he is.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.utils import str_if_bytes

_log = logging.getLogger(__name__)
FOLLOW_S: Final = 1.0  # shorter than any lease, so that a demotion never finds two holders of one
_TIMEOUTS: Final[dict[str, Any]] = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0}
# A sentinel is asked once and not for long: the next one may know, and BusSocket has 5 s for all of it.
_SENTINEL_TIMEOUTS: Final[dict[str, Any]] = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
_SENTINEL_PORT: Final = 26379
_SENTINEL_URL: Final = re.compile(
    r"redis\+sentinel://(?:(?P<username>[^:/]*):(?P<password>[^/]+)@)?(?P<hosts>[^/@]+)"
    r"/(?P<master>[A-Za-z0-9._-]+)(?:/(?P<db>[0-9]{1,5}))?"
)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


def parse_redis_url(url: str) -> dict[str, Any]:
    """The options of redis-py in a URL; a sentinel URL has `sentinels` and `master` for `host` and `port`.

    Raises ValueError; its text may hold the password.
    """
    if not url.startswith("redis+sentinel:"):
        return dict(parse_url(url))
    if (match := _SENTINEL_URL.fullmatch(url)) is None:
        raise ValueError("not a sentinel URL")
    return {
        "sentinels": [_parse_host(host) for host in match["hosts"].split(",")],
        "master": match["master"],
        "username": unquote(match["username"] or "") or None,
        "password": unquote(match["password"] or "") or None,
        "db": int(match["db"] or 0),
    }


def _parse_host(text: str) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    port = int(match[2] or _SENTINEL_PORT) if match else 0
    if match is None or not 1 <= port <= 65535:
        raise ValueError("not a sentinel's address")
    return match[1].strip("[]"), port


def find_passwords(url: str) -> frozenset[str]:
    """The password in a URL that `parse_redis_url` takes, as Redis gets it and as the URL spells it."""
    user, _, _ = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")
    found = (parse_redis_url(url).get("password"), user.partition(":")[2])
    return frozenset(password for password in found if password)


def describe(url: str) -> str:
    """Where a Redis is, as `host:port`, the path of its socket, or the sentinels to ask; never a password."""
    options = parse_redis_url(url)
    if "sentinels" in options:
        sentinels = ", ".join(f"{host}:{port}" for host, port in options["sentinels"])
        return f"the master {options['master']!r} that the sentinels at {sentinels} name"
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def make_redis(url: str, on_moved: Callable[[], None] = lambda: None) -> "Redis":
    """A client for everything but the hot sockets; a command raises redis.RedisError if Redis does not answer in 5 s.

    `on_moved` is called before anything is said to a new master, which may lack the last of what the old one was told.
    Sentinels need a running event loop.
    """
    options = parse_redis_url(url)
    if "sentinels" not in options:
        # After a restart of Redis each connection of the pool is dead, and the first word on it fails although Redis is
        # there again: it is said once more, on a new one.
        options["connection_class"] = _make_careful(options.get("connection_class", Connection))
        retry = Retry(NoBackoff(), 1, (RedisConnectionError,))
        return Redis.from_pool(ConnectionPool(retry=retry, **_TIMEOUTS, **options))
    return Redis.from_pool(_FollowingPool(options, on_moved))


class _Careful(AbstractConnection):
    """Says of a socket that closed meanwhile what redis-py says of any that broke: uvloop has an error of its own."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as exc:
            raise RedisConnectionError(f"closed while it was written to ({exc})") from exc


def _make_careful(base: type[AbstractConnection]) -> type[AbstractConnection]:
    return type(f"Careful{base.__name__}", (_Careful, base), {})


class _Sentinel(Sentinel):
    """Redis-py's, but it names a promoted replica at once, and its error is one line that says what each one said.

    Redis-py's own names the old master until all other replicas follow the new one (two replicas: 5 s more), and its
    error has 1,000 characters a sentinel.
    """

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The master that the first sentinel knows to be well, of those that answer; raises MasterNotFoundError."""
        reasons: list[str] = []
        for sentinel in list(self.sentinels):
            try:
                address = await self._ask(sentinel, service_name)
            except (RedisError, OSError) as exc:
                reasons.append(str(exc))
                continue
            self.sentinels.remove(sentinel)
            self.sentinels.insert(0, sentinel)  # the next time it is asked first
            return address
        raise MasterNotFoundError(f"no sentinel names a master {service_name!r}: {'; '.join(dict.fromkeys(reasons))}")

    async def _ask(self, sentinel: "Redis", name: str) -> tuple[str, int]:
        address: Any = await sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", name)  # type: ignore[no-untyped-call]
        states: Any = await sentinel.sentinel_masters()
        if address is None or name not in states:
            raise MasterNotFoundError("unknown there")
        host, port = str_if_bytes(address[0]), int(address[1])
        state = states[name]
        if (state["ip"], state["port"]) == (host, port) and not self.check_master_state(state, name):
            raise MasterNotFoundError("known to be down")
        return host, port


def _make_sentinel(options: dict[str, Any]) -> Sentinel:
    """Sentinels have no password, or that of the Redis servers: each is asked without it, then with it."""
    sentinel = _Sentinel([])  # type: ignore[no-untyped-call]
    logins: list[dict[str, Any]] = [{}, {"username": options["username"], "password": options["password"]}]
    sentinel.sentinels = [
        Redis(host=host, port=port, retry=Retry(NoBackoff(), 0), **login, **_SENTINEL_TIMEOUTS)
        for host, port in options["sentinels"]
        for login in logins[: 2 if options["password"] else 1]
    ]
    return sentinel


class _FollowingPool(SentinelConnectionPool):
    """Leaves a master that was replaced, within FOLLOW_S, and says so; what was asked there fails as if it had died."""

    def __init__(self, options: dict[str, Any], on_moved: Callable[[], None]) -> None:
        login = {name: options[name] for name in ("username", "password", "db")}
        careful = _make_careful(SentinelManagedConnection)
        super().__init__(  # type: ignore[no-untyped-call]
            options["master"], _make_sentinel(options), connection_class=careful, **login, **_TIMEOUTS
        )
        self._on_moved = on_moved
        self._at: tuple[str, int] | None = None  # where everything is connected, until there is another master
        self._follower: asyncio.Task[None] | None = None

    async def get_master_address(self) -> tuple[str, int]:
        """Called for each new connection, and by the follower."""
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow(), name="redis master")
        address: tuple[str, int] = await super().get_master_address()  # type: ignore[no-untyped-call]
        before, self._at = self._at, address
        if before not in (None, address):
            _log.warning("control: the master is now %s:%d", *address)
            self._on_moved()
            await self.disconnect()
        return address

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            with contextlib.suppress(RedisError, OSError):  # no sentinel knows better
                await self.get_master_address()

    async def aclose(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
        await super().aclose()
        await self.sentinel_manager.aclose()


async def find_address(url: str) -> dict[str, Any]:
    """The options in a URL, with the master's `host` and `port` as the sentinels name them now.

    Raises OSError if no sentinel names one; asking takes at most 1 s for each sentinel that does not answer.
    """
    options = parse_redis_url(url)
    if "sentinels" in options:
        async with _make_sentinel(options) as sentinel:
            options["host"], options["port"] = await _ask(sentinel, options["master"])
    return options


async def _ask(sentinel: Sentinel, master: str) -> tuple[str, int]:
    try:
        address: tuple[str, int] = await sentinel.discover_master(master)
    except RedisError as exc:
        raise ConnectionError(str(exc)) from exc
    return address


async def until_moved(options: dict[str, Any]) -> None:
    """Return once the sentinels name another master than what `find_address` found."""
    async with _make_sentinel(options) as sentinel:
        while True:
            await asyncio.sleep(FOLLOW_S)
            with contextlib.suppress(OSError):  # no sentinel knows better
                if (address := await _ask(sentinel, options["master"])) != (options["host"], options["port"]):
                    _log.warning("bus: the master is now %s:%d", *address)
                    return
