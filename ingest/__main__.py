"""`python -m ingest`: configuration from the environment, then run until told to stop."""

import uvloop

from ingest import players
from ingest.app import Ingest
from shared import config, logs
from shared.memory import freeze_loaded


async def _run(settings: config.Config) -> None:
    await Ingest(settings).run()


def main() -> None:
    """Exit 2 on a bad configuration or scenario, 0 after TERM or INT, 1 if a task failed."""
    settings = config.load_or_exit()
    logs.configure(settings.log_level, "ingest", settings.secrets)
    try:
        players.check(settings)
        freeze_loaded()
        uvloop.run(_run(settings))
    except players.Unplayable as exc:
        config.exit_with(f"TEST_SCENARIO: {exc}")


if __name__ == "__main__":
    main()
