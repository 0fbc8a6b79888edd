"""`python -m tests.official_client PACKAGE HOST:PORT KEY CHANNEL...`: an official client, nothing altered but its URL.

Prints each message it was handed as one JSON line, [model's name, its fields], and how its run ended.
"""

import dataclasses
import importlib
import json
import sys
from collections.abc import Iterable
from typing import Any


def _print(name: str, fields: object) -> None:
    print(json.dumps([name, fields]), flush=True)


def _handle(messages: Iterable[Any]) -> None:
    for message in messages:
        fields = dataclasses.asdict(message)
        _print(type(message).__name__, {name: value for name, value in fields.items() if value is not None})


def main() -> None:
    """`package` is massive or polygon, both with the same names."""
    package, where, key, *channels = sys.argv[1:]
    client = importlib.import_module(package).WebSocketClient(
        api_key=key, feed=where, market="stocks", secure=False, subscriptions=channels
    )
    try:
        client.run(handle_msg=_handle)
    except Exception as exc:
        _print("ended", f"{type(exc).__name__}: {exc}")
    else:
        _print("ended", "")


if __name__ == "__main__":
    main()
