"""What tests of a client's session say to it, and what they look at."""

import json

from gateway.session import Session, Step
from shared.protocol import Status

KEY = "right-key"


def make_session(authenticated: bool = True, feed: str = "stocks") -> Session:
    session = Session(feed, lambda key: key == KEY)
    if authenticated:
        say(session, "auth", KEY)
    return session


def say(session: Session, action: str, params: object) -> Step:
    return session.receive(json.dumps({"action": action, "params": params}))


def hold(session: Session, params: str) -> Step:
    """Subscribe, and get the acks."""
    step = say(session, "subscribe", params)
    session.acknowledge(list(step.add))
    return step


def get_all(session: Session) -> tuple[object, ...]:
    """Everything that a refused message must not change."""
    return session.state, dict(session.spellings), list(session.owed)


def get_only(statuses: tuple[Status, ...]) -> Status:
    (status,) = statuses
    return status
