"""`python -m ingest`: configuration from the environment, then run until told to stop."""

import sys

import uvloop

from ingest.app import Ingest
from shared import config, logs
from shared.recording import BadRecording


async def _run(settings: config.Config) -> None:
    await Ingest(settings).run()


def main() -> None:
    """Exit 2 on a bad configuration, 0 after TERM or INT, 1 if a task failed or a recording cannot be played."""
    settings = config.load_or_exit()
    logs.configure(settings.log_level, "ingest", settings.secrets)
    try:
        uvloop.run(_run(settings))
    except BadRecording as exc:
        sys.exit(f"TEST_SCENARIO: {exc}")


if __name__ == "__main__":
    main()
