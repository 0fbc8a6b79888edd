"""`polygon-proxy`, the command line for people."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import urlsplit

import click
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidURI, WebSocketException

from shared.backoff import Backoff
from shared.cli_inject import inject
from shared.cli_replay import replay
from shared.cli_test import test
from shared.config import Config, load_or_exit
from shared.recording_cli import inspect, record

_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024  # far above what Polygon (1 MB) or a gateway (512 KiB) sends
_ANSWER_WITHIN_S: Final = 10.0  # greeting and auth reply
_CLOSE_WITHIN_S: Final = 0.5  # Ctrl-C must not wait for a server that is still sending
_SLOWEST_RETRY_S: Final = 10.0
_ANY_KEY: Final = "tail"  # for a proxy that has no key configured and takes any
_INTERRUPTED: Final = 130
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where one listens is not where one connects

_split = msgspec.json.Decoder(list[msgspec.Raw])


class AuthFailed(Exception):
    """The server refused the key; str() is its message."""


class _Head(msgspec.Struct):
    ev: str = ""
    status: str = ""
    message: str = ""


_decode_head = msgspec.json.Decoder(_Head)


def get_url(settings: Config) -> str:
    """Where this machine's gateways listen."""
    host = _ANYWHERE.get(settings.proxy_host, settings.proxy_host)
    return f"ws://{f'[{host}]' if ':' in host else host}:{settings.proxy_stocks_port}/{settings.feed}"


def get_key(settings: Config) -> str:
    """The key to show to a gateway."""
    return settings.polygon_api_key or next(iter(settings.proxy_api_keys), _ANY_KEY)


def read_frame(frame: str | bytes) -> Iterator[tuple[bytes, _Head | None]]:
    """Each event of a frame as one line of its own bytes, beside its head if it is a status.

    Raises msgspec.MsgspecError if the frame is not a JSON array of objects.
    """
    for raw in _split.decode(frame):
        body = bytes(raw)
        head = _decode_head.decode(body) if b'"status"' in body else _Head()
        # In JSON a bare line break is white space between tokens: nothing is lost but the break.
        yield body.replace(b"\r", b" ").replace(b"\n", b" "), head if head.ev == "status" else None


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_frame(frame: str | bytes) -> None:
    out = sys.stdout.buffer
    for line, status in read_frame(frame):
        if status is None:
            out.write(line + b"\n")
        else:
            _say(f"{status.status}: {status.message}")
    out.flush()


async def _receive_statuses(connection: ClientConnection) -> list[_Head]:
    async with asyncio.timeout(_ANSWER_WITHIN_S):
        statuses = [status for _, status in read_frame(await connection.recv()) if status is not None]
    for status in statuses:
        _say(f"{status.status}: {status.message}")
    return statuses


async def _authenticate(connection: ClientConnection, key: str) -> None:
    await _receive_statuses(connection)  # the greeting
    await connection.send(msgspec.json.encode({"action": "auth", "params": key}).decode())
    for status in await _receive_statuses(connection):
        if status.status == "auth_failed":
            raise AuthFailed(status.message)


async def _follow(connection: ClientConnection, key: str, channels: str, backoff: Backoff) -> None:
    try:
        await _authenticate(connection, key)
        await connection.send(msgspec.json.encode({"action": "subscribe", "params": channels}).decode())
        backoff.reset()
        async for frame in connection:
            _print_frame(frame)
    finally:
        await connection.close()  # else the library would report an internal error of ours to the server


async def tail_channels(url: str, key: str, channels: str, backoff: Backoff) -> None:
    """Print events for ever, connecting again whenever that ends; raises AuthFailed, InvalidURI or BrokenPipeError."""
    shown = url.partition("?")[0]
    # A proxy from the environment would only be in the way to a gateway of this machine.
    proxy: Literal[True] | None = None if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1") else True
    while True:
        try:
            async with connect(
                url, max_size=_MAX_FRAME_BYTES, compression=None, proxy=proxy, close_timeout=_CLOSE_WITHIN_S
            ) as connection:
                await _follow(connection, key, channels, backoff)
            reason = "closed by the server"
        except (BrokenPipeError, InvalidURI):
            raise
        except TimeoutError:
            reason = "no answer"
        except ConnectionRefusedError:
            reason = "nobody listens there yet"
        except (OSError, WebSocketException) as exc:
            reason = str(exc) or type(exc).__name__
        except msgspec.MsgspecError as exc:
            reason = f"not a frame of events: {exc}"
        delay_s = backoff.next_s()
        _say(f"{shown}: {reason}; trying again in {delay_s:.1f} s")
        await asyncio.sleep(delay_s)


@click.group()
def main() -> None:
    """One Polygon connection, any number of clients."""


@main.command()
@click.argument("channels", nargs=-1, required=True)
@click.option("--url", help="Where to connect.  [default: the gateways that the configuration names]")
def tail(channels: tuple[str, ...], url: str | None) -> None:
    """Print live events, one line of JSON each, for CHANNELS such as T.AAPL,Q.AAPL or 'T.*'.

    The key is POLYGON_API_KEY or the first of PROXY_API_KEYS.  Statuses go to stderr.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also for a shell's background job, where it is ignored
    settings = load_or_exit()
    backoff = Backoff(settings.reconnect_delay_ms / 1000.0, _SLOWEST_RETRY_S)
    try:
        asyncio.run(tail_channels(url or get_url(settings), get_key(settings), ",".join(channels), backoff))
    except AuthFailed as exc:
        _say(f"the key was refused ({exc}); set POLYGON_API_KEY or PROXY_API_KEYS to one that the proxy accepts")
        sys.exit(1)
    except InvalidURI:
        raise click.BadParameter("expected ws://HOST:PORT/stocks", param_hint="--url") from None
    except BrokenPipeError:
        # The reader has seen enough, as in `| head`.  Python would try to flush stdout once more and complain.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


for _command in (test, inject, replay, record, inspect):
    main.add_command(_command)


if __name__ == "__main__":
    main()
