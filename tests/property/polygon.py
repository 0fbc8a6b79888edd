"""Upstream at the far end of a wire: takes actions in order, keeps its statuses until somebody reads them.  Pure."""

import json
from collections import deque
from collections.abc import Callable, Iterable

from ingest.reconcile import CONFIRM_S, DROPPED_S
from tests.fakes.session import Script, Session, render_status
from tests.property.model import is_carried, wildcard_of

LIMIT = "Subscription limit reached"
ANSWERED_WITHIN_S = 1.5


class Wire:
    """One connection.  `get_protected` says which channels must not be cut off; what is done wrong is in `faults`."""

    def __init__(
        self, script: Script, get_now_s: Callable[[], float], get_protected: Callable[[], Iterable[str]]
    ) -> None:
        self.session = Session("stocks", script)
        self._get_now_s = get_now_s
        self._get_protected = get_protected
        self.answers: deque[bytes] = deque()
        self._asked: set[str] = set()  # of the last subscribe, as far as ingest has not read the answer
        self._owed = 0  # answers to it that ingest has not read, those included that upstream will not give
        self.asked_s = float("-inf")
        self.dropped_s: dict[str, float] = {}
        self.refused_s: dict[str, float] = {}  # channel -> when it was last refused, and not accepted since
        self.faults: list[str] = []

    @property
    def held(self) -> set[str]:
        """What upstream sends events of, acked or silently accepted."""
        return set(self.session.held)

    @property
    def asked(self) -> set[str]:
        """What ingest cannot know to be answered."""
        return self._asked if self._get_now_s() - self.asked_s < CONFIRM_S else set()

    @property
    def maybe_double(self) -> set[str]:
        """As `surely_double`, with what is asked for, and with refused ones, since a refusal may be unattributable."""
        return self._beside(self.held | self.asked | self._recently_dropped() | self.refused_s.keys())

    @property
    def surely_double(self) -> set[str]:
        """Exact channels whose wildcard is subscribed beside them, or whose events may still be on their way twice."""
        return self._beside(self.held | self._recently_dropped())

    def _recently_dropped(self) -> set[str]:
        now_s = self._get_now_s()
        return {channel for channel, since_s in self.dropped_s.items() if now_s - since_s < DROPPED_S}

    @staticmethod
    def _beside(channels: set[str]) -> set[str]:
        return {c for c in channels if c != wildcard_of(c) and wildcard_of(c) in channels}

    def send(self, text: str) -> None:
        """Take one action in."""
        action = json.loads(text)
        if action["action"] == "auth":
            self.answers.append(render_status("auth_success", "authenticated"))
        elif action["action"] == "subscribe":
            self._on_subscribe(action["params"])
        else:
            self._on_unsubscribe(action["params"])

    def _on_subscribe(self, params: str) -> None:
        now_s = self._get_now_s()
        if self.asked:
            self.faults.append(f"a second subscribe is under way: {params} beside {sorted(self.asked)}")
        self._asked, self.asked_s = set(params.split(",")), now_s
        self._owed = len(self._asked)
        statuses = self.session.subscribe(params)
        limited = any(LIMIT.encode() in status for status in statuses)
        for channel in self._asked:
            if channel in self.session.held:
                self.refused_s.pop(channel, None)
            elif limited or channel.split(".")[0] in self.session.script.topics["stocks"]:
                self.refused_s[channel] = now_s
        self.answers.extend(statuses)

    def _on_unsubscribe(self, params: str) -> None:
        carried = {channel for channel in self._get_protected() if is_carried(channel, self.held)}
        for channel in params.split(","):
            if channel in self.held:
                self.dropped_s[channel] = self._get_now_s()
            self.session.unsubscribe(channel)
            for cut in sorted(c for c in carried if not is_carried(c, self.held)):
                self.faults.append(f"unsubscribed {channel} cuts {cut} off; upstream holds {sorted(self.held)}")

    def read(self) -> bytes | None:
        """The next status, if there is one; JSON."""
        if not self.answers:
            return None
        status = self.answers.popleft()
        text = json.loads(status)["message"]
        if text.startswith(("not authorized", "subscribed to: ")):
            self._owed -= 1
            self._asked.discard(text.removeprefix("subscribed to: "))
        if text.startswith(LIMIT) or not self._owed:
            self._asked.clear()
        return status
