"""Our side of the conversation with upstream (PROTOCOL c): what each status means to us.  Pure.

    greeting --connected--> authenticating --auth_success--> live
        any state --auth_failed, max_connections, ...--> over

A status that has no row in the table changes nothing and is reported, whatever state we are in.
"""

import logging
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from shared.protocol import Status

_log = logging.getLogger(__name__)
_SUBSCRIBED: Final = "subscribed to: "
_UNKNOWN_LOGGED: Final = 10  # statuses of one connection; the others go unmentioned
SLOW_RETRY_S: Final = 30.0  # after a refusal that a quick retry would only repeat, or turn into a fight for the slot


class State(Enum):
    """Where the conversation stands."""

    GREETING = "waiting for the greeting"
    AUTHENTICATING = "authenticating"
    LIVE = "live"
    OVER = "over"


class Step(NamedTuple):
    """What a status asks of the shell: at most one of these is set."""

    authenticate: bool = False
    became_live: bool = False
    confirmed: str | None = None
    refused: str | None = None  # upstream's text; it names no channel
    over: str | None = None  # why the connection is of no more use
    retry_floor_s: float = 0.0


class Session:
    """The state of one upstream connection."""

    def __init__(self) -> None:
        self._state = State.GREETING
        self._unknown = 0

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._state

    def _set_state(self, state: State) -> None:
        _log.debug("upstream session: %s -> %s", self._state.value, state.value)
        self._state = state

    def receive(self, status: Status) -> Step:
        """Take one status in."""
        handler = _TABLE.get((self._state, status.status)) or _ANY_STATE.get(status.status)
        if handler is None:
            self._report(status)
            return Step()
        return handler(self, status.message)

    def _report(self, status: Status) -> None:
        self._unknown += 1
        if self._unknown <= _UNKNOWN_LOGGED:
            _log.warning("upstream says %r (%r) while %s", status.status, status.message, self._state.value)

    def _greeted(self, _message: str) -> Step:
        self._set_state(State.AUTHENTICATING)
        return Step(authenticate=True)

    def _authenticated(self, _message: str) -> Step:
        self._set_state(State.LIVE)
        return Step(became_live=True)

    def _acked(self, message: str) -> Step:
        if message.startswith(_SUBSCRIBED):
            return Step(confirmed=message.removeprefix(_SUBSCRIBED))
        return Step()

    def _refused(self, message: str) -> Step:
        return Step(refused=message)

    def _ended(self, message: str) -> Step:
        self._set_state(State.OVER)
        return Step(over=message)

    def _locked_out(self, message: str) -> Step:
        self._set_state(State.OVER)
        return Step(over=message, retry_floor_s=SLOW_RETRY_S)


_Handler = Callable[[Session, str], Step]

_TABLE: Final[dict[tuple[State, str], _Handler]] = {
    (State.GREETING, "connected"): Session._greeted,
    (State.AUTHENTICATING, "auth_success"): Session._authenticated,
    (State.AUTHENTICATING, "success"): Session._authenticated,  # the wording of 2019 (PROTOCOL c, 2b)
    (State.LIVE, "success"): Session._acked,
    (State.LIVE, "error"): Session._refused,
}
_ANY_STATE: Final[dict[str, _Handler]] = {
    "auth_failed": Session._locked_out,
    "max_connections": Session._locked_out,
    "auth_timeout": Session._ended,
    "slow_consumer": Session._ended,
    "force_disconnect": Session._ended,
}
