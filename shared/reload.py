"""SIGHUP: what can change while a process runs, which is the log level and the clients' keys, is read anew."""

import asyncio
import logging
import signal
from collections.abc import Callable

from shared import config, logs

_log = logging.getLogger(__name__)


def watch_hangup(process_name: str, before: config.Config, apply: Callable[[config.Config], None] | None) -> None:
    """At each SIGHUP read the configuration, set the log level, and `apply` the keys; a bad one changes nothing."""
    secrets = set(before.secrets)  # of all configurations so far, for what is in use may be an old one

    def reload() -> None:
        try:
            settings = config.read()
        except config.ConfigError as exc:
            _log.error("not reloaded: %s", exc)
            return
        secrets.update(settings.secrets)
        logs.configure(settings.log_level, process_name, secrets)
        if apply is not None:
            apply(settings)
        _log.warning("reloaded: log level%s; all else needs a restart", " and keys" if apply is not None else "")

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
