"""`python -m gateway`: configuration from the environment, then run until told to stop."""

import errno
import socket
import sys

import uvloop

from gateway.app import Gateway
from shared import config, logs
from shared.memory import freeze_loaded


async def _run(settings: config.Config) -> None:
    await Gateway(settings).run()


def main() -> None:
    """Exit 2 on a bad configuration, 0 after TERM or INT, 1 if the port cannot be had or a task failed."""
    settings = config.load_or_exit()
    logs.configure(settings.log_level, "gateway", settings.secrets)
    freeze_loaded()
    try:
        uvloop.run(_run(settings))
    except OSError as exc:
        if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
            print(
                f"configuration: PROXY_HOST={settings.proxy_host!r}: expected an address of this machine",
                file=sys.stderr,
            )
            sys.exit(2)
        print(f"gateway: cannot listen on {settings.proxy_host}:{settings.proxy_stocks_port}: {exc}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
