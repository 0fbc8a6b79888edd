"""SIGHUP: what can change while a process runs, which is the log level and the clients' keys, is read anew."""

import asyncio
import logging
import signal
from collections.abc import Callable

from shared import config, logs

_log = logging.getLogger(__name__)


def watch_hangup(process_name: str, apply: Callable[[config.Config], None]) -> None:
    """At each SIGHUP read the configuration, set the log level, and `apply` the rest; a bad one changes nothing."""

    def reload() -> None:
        try:
            settings = config.read()
        except config.ConfigError as exc:
            _log.error("not reloaded: %s", exc)
            return
        logs.configure(settings.log_level, process_name, settings.secrets)
        apply(settings)
        _log.warning("reloaded: log level and keys; all else needs a restart")

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
