"""Our pure state for one client: what each of its messages means (PROTOCOL c, d.6).

    greeted --auth, right key--> authenticated
    greeted --auth, wrong key / nothing for too long--> closed
    any state --too many bad messages--> closed

A refused message changes nothing but the count of bad messages.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple

from shared import protocol
from shared.channels import ALL, BadChannel, UnknownTopic, parse_channel
from shared.protocol import Action, BadAction, Status

MAX_CHANNELS: Final = 50_000  # of one client; more are refused: whoever needs the market takes EV.*
MAX_BAD_MESSAGES: Final = 100  # of one client; then it is closed


class State(Enum):
    """Where the conversation stands."""

    GREETED = "greeted"
    AUTHENTICATED = "authenticated"
    CLOSED = "closed"


class Step(NamedTuple):
    """What one message asks of the shell, in this order."""

    statuses: tuple[Status, ...] = ()
    add: tuple[str, ...] = ()  # channels that the client holds from now on; their acks are still owed
    remove: tuple[str, ...] = ()  # channels that it holds no more; acked by `statuses`
    close: bool = False  # with 1008, after the statuses
    unknown_topics: int = 0
    complaint: str = ""  # why the message was bad, for the log


class Session:
    """The state of one client; `accepts_key` judges a key in constant time."""

    def __init__(self, feed: str, accepts_key: Callable[[str], bool]) -> None:
        self._feed = feed
        self._accepts_key = accepts_key
        self.state = State.GREETED
        self.bad_messages = 0
        self.spellings: dict[str, str] = {}  # channel held -> as the client wrote it, for its acks
        self.asks = 0  # subscribes so far
        self.owed: dict[str, int] = {}  # channels whose ack is still to be sent, in order -> the ask that it answers
        self.told_parts: set[str] = set()  # of `*`, refused by upstream, and the client knows
        self.refused: set[str] = set()  # channels that upstream refuses: kept, in case it changes its mind

    def receive(self, message: str | bytes) -> Step:
        """Take one message in."""
        if self.state is State.CLOSED:
            return Step()
        try:
            action = protocol.parse_action(message)
            handler = _TABLE.get((self.state, action.action))
            if handler is None:
                raise BadAction(f"unknown action: {action.action[:32]!r}")
            return handler(self, action)
        except BadAction as exc:
            return self._refuse(str(exc))

    def _refuse(self, why: str) -> Step:
        self.bad_messages += 1
        if self.bad_messages < MAX_BAD_MESSAGES:
            return Step((protocol.error(why),), complaint=why)
        return self._close_abuser()

    def _refuse_flood(self) -> Step:
        return self._refuse(f"more than {MAX_CHANNELS} channels: nothing was changed; EV.* is a whole topic")

    def _close_abuser(self) -> Step:
        return self._close(protocol.error(f"closed after {MAX_BAD_MESSAGES} bad messages"), "too many bad messages")

    def _close(self, status: Status, complaint: str) -> Step:
        self.state = State.CLOSED
        return Step((status,), close=True, complaint=complaint)

    def authenticate(self, key: str) -> Step:
        """A key that came in a message; a wrong one ends the session as upstream does."""
        if not key or not self._accepts_key(key):
            return self._close(protocol.AUTH_FAILED, "wrong key")
        self.state = State.AUTHENTICATED
        return Step((protocol.AUTH_SUCCESS,))

    def authenticate_by_url(self, key: str) -> Step:
        """A key that came as `?apiKey=`: upstream ignores it, so a wrong one does nothing (PROTOCOL c.1)."""
        return self.authenticate(key) if key and self._accepts_key(key) else Step()

    def give_up(self) -> Step:
        """No key came in time."""
        return self._close(protocol.AUTH_TIMEOUT, "no key in time") if self.state is State.GREETED else Step()

    def _on_auth(self, action: Action) -> Step:
        return self.authenticate(action.params)

    def _on_early(self, _action: Action) -> Step:
        self.bad_messages += 1
        if self.bad_messages < MAX_BAD_MESSAGES:
            return Step((protocol.AUTH_REQUIRED,), complaint="action before auth")
        return self._refuse("too many actions before auth")

    def _on_subscribe(self, action: Action) -> Step:
        if action.params.count(",") >= MAX_CHANNELS:
            return self._refuse_flood()
        asked, refusals, unknown = self._parse(action.params)
        if refusals and self.bad_messages >= MAX_BAD_MESSAGES:
            return self._close_abuser()
        new = {c: text for c, text in asked.items() if c not in self.spellings or c in self.refused}
        if len(new.keys() | self.spellings.keys()) > MAX_CHANNELS:
            return self._refuse_flood()
        self.spellings.update(new)
        self.asks += 1
        self.owed.update(dict.fromkeys(new, self.asks))
        if ALL in new:
            self.told_parts.clear()
        self.refused.difference_update(new)
        return Step(tuple(refusals), add=tuple(new), unknown_topics=unknown, complaint=_first(refusals))

    def _on_unsubscribe(self, action: Action) -> Step:
        if action.params.count(",") >= MAX_CHANNELS:
            return self._refuse_flood()
        asked, refusals, unknown = self._parse(action.params)
        if refusals and self.bad_messages >= MAX_BAD_MESSAGES:
            return self._close_abuser()
        statuses = list(refusals)
        gone = tuple(channel for channel in asked if channel in self.spellings)
        for channel in gone:
            if channel in self.refused:
                self.refused.remove(channel)  # upstream does not hold it, so it answers nothing
            else:
                statuses += self.acknowledge([channel])
                statuses.append(protocol.unsubscribed(asked[channel]))
            del self.spellings[channel]
        return Step(tuple(statuses), remove=gone, unknown_topics=unknown, complaint=_first(refusals))

    def _parse(self, params: str) -> tuple[dict[str, str], list[Status], int]:
        """The channels named, each once, as the client spelt them; a status for the bad ones; how many unknown."""
        asked: dict[str, str] = {}
        refusals: list[Status] = []
        unknown = 0
        for item in params.split(","):
            text = item.strip()
            if not text:
                continue
            try:
                asked.setdefault(parse_channel(self._feed, text), text)
            except UnknownTopic:
                unknown += 1
            except BadChannel as exc:
                refusals.append(protocol.error(str(exc)))
        if len(refusals) > 10:
            refusals = [*refusals[:9], protocol.error(f"and {len(refusals) - 9} more bad channels")]
        if refusals:
            self.bad_messages += 1
        return asked, refusals, unknown

    def acknowledge(self, channels: Iterable[str]) -> list[Status]:
        """The acks of those of `channels` that are still owed or were refused, in this order."""
        acks = []
        for channel in channels:
            if channel in self.owed or channel in self.refused:
                self.owed.pop(channel, None)
                self.refused.discard(channel)
                acks.append(protocol.subscribed(self.spellings[channel]))
        return acks

    def refuse(self, channel: str, text: str) -> Status:
        """Upstream refuses a channel that the client holds; the status names it, as upstream's own does not."""
        self.owed.pop(channel, None)
        self.refused.add(channel)
        return protocol.error(f"{text}: {self.spellings[channel]}")


def _first(refusals: list[Status]) -> str:
    return refusals[0].message if refusals else ""


_TABLE: Final[dict[tuple[State, str], Callable[[Session, Action], Step]]] = {
    (State.GREETED, "auth"): Session._on_auth,
    (State.GREETED, "subscribe"): Session._on_early,
    (State.GREETED, "unsubscribe"): Session._on_early,
    (State.AUTHENTICATED, "auth"): Session._on_auth,
    (State.AUTHENTICATED, "subscribe"): Session._on_subscribe,
    (State.AUTHENTICATED, "unsubscribe"): Session._on_unsubscribe,
}
