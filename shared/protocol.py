"""The words of Polygon's wire, both ways: statuses that a server says, actions that a client sends.  Pure.

Texts are verbatim from PROTOCOL.md section c; where upstream's own text is unknown the line says "ours".
"""

from collections.abc import Iterable
from typing import Final

import msgspec

MAX_CLIENT_FRAME_BYTES: Final = 512 * 1024  # the Go client gives up above 1,000,000 B (PROTOCOL d.6.2)
MAX_ACTION_BYTES: Final = 1024 * 1024  # upstream's own limit for one subscribe message (PROTOCOL c.1)


class Status(msgspec.Struct, frozen=True):
    """One status object; always exactly these three keys in this order (PROTOCOL b.2)."""

    ev: str
    status: str
    message: str


def make_status(status: str, message: str) -> Status:
    """A status of the given kind; `ev` is always "status"."""
    return Status("status", status, message)


CONNECTED: Final = make_status("connected", "Connected Successfully")
AUTH_SUCCESS: Final = make_status("auth_success", "authenticated")
AUTH_FAILED: Final = make_status("auth_failed", "authentication failed")
AUTH_TIMEOUT: Final = make_status("auth_timeout", "No authentication request received.")
AUTH_REQUIRED: Final = make_status("auth_required", "authenticate before you subscribe")  # text ours
MAX_CONNECTIONS: Final = make_status("max_connections", "Maximum number of websocket connections exceeded.")
SUBSCRIPTION_LIMIT: Final = "Subscription limit reached"  # how the text begins (PROTOCOL c, 9)

CLOSE_POLICY: Final = 1008
CLOSE_RESTART: Final = 1012  # official clients come back after it; never 1000 or 1001 (PROTOCOL d.6.3)


def subscribed(channel: str) -> Status:
    """The ack of one accepted channel, in the client's own spelling."""
    return make_status("success", f"subscribed to: {channel}")


def unsubscribed(channel: str) -> Status:
    """The ack of one dropped channel; sic: "unsubscribed to" (PROTOCOL c)."""
    return make_status("success", f"unsubscribed to: {channel}")


def conflated(count: int, first_ms: int, last_ms: int) -> Status:
    """What a slow client was not sent, by time of receipt (Unix ms).  Kind and text are ours."""
    what = f"{count} events received from {first_ms} to {last_ms} (Unix ms) were left out"
    return make_status("conflated", f"{what}: this client does not read fast enough, so newer ones took their place")


def slow_consumer(why: str) -> Status:
    """What a slow client is told before it is closed; the text is ours (PROTOCOL g)."""
    return make_status("slow_consumer", f"closed: this client did not read fast enough: {why}")


def error(message: str) -> Status:
    """A refusal that leaves the connection open."""
    return make_status("error", message)


_encoder = msgspec.json.Encoder()


def encode_status(status: Status) -> bytes:
    """One JSON object."""
    return _encoder.encode(status)


def encode_statuses(statuses: Iterable[Status], max_bytes: int = MAX_CLIENT_FRAME_BYTES) -> list[bytes]:
    """JSON arrays that hold the statuses in order, each array at most `max_bytes` long."""
    frames: list[bytes] = []
    parts: list[bytes] = []
    size = 2
    for status in statuses:
        part = _encoder.encode(status)
        if parts and size + len(part) + 1 > max_bytes:
            frames.append(b"[" + b",".join(parts) + b"]")
            parts, size = [], 2
        parts.append(part)
        size += len(part) + 1
    if parts:
        frames.append(b"[" + b",".join(parts) + b"]")
    return frames


class Action(msgspec.Struct, frozen=True):
    """A client's request (PROTOCOL c): `params` is a key for auth, else channels joined by commas."""

    action: str
    params: str


class BadAction(Exception):
    """A client's message that is no action; the text is for the client and never quotes a key."""


_action_decoder = msgspec.json.Decoder(Action)


def parse_action(message: str | bytes) -> Action:
    """The action in a client's text message; raises BadAction with a sentence for the client."""
    if isinstance(message, bytes):
        raise BadAction("binary messages are not understood: send a JSON object as text")
    try:
        return _action_decoder.decode(message)
    except msgspec.ValidationError:
        raise BadAction('expected {"action":"auth|subscribe|unsubscribe","params":"<string>"}') from None
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise BadAction("malformed JSON") from None


def encode_action(action: str, params: str) -> str:
    """A request as the official clients send it."""
    return _encoder.encode(Action(action, params)).decode()
