"""`python -m tests.bench.simulator`: how many quotes and trades the simulated market generates on one core.

All is held, so all is written out.  Exit status 0: 200,000 events/s or more; 1: fewer.
"""

import sys
import time
from datetime import datetime
from typing import Final

import click

from ingest.simulator.hours import NEW_YORK, to_ms
from ingest.simulator.listing import SYMBOLS
from ingest.simulator.market import Market

_TARGET: Final = 200_000
_STEP_MS: Final = 4
_START_MS: Final = to_ms(datetime(2026, 11, 20, 12, tzinfo=NEW_YORK))


@click.command()
@click.option("--seconds", default=5, show_default=True, help="Simulated ones.")
@click.option("--symbols", default=500, show_default=True)
def main(seconds: int, symbols: int) -> None:
    """Measure the simulated market on this machine."""
    names = (*SYMBOLS, *(f"ZZ{number:04}" for number in range(symbols)))[:symbols]
    market = Market(names, 1, _TARGET, _START_MS)
    market.set_held(frozenset({"*"}))
    events, size, worst_s, begin = 0, 0, 0.0, time.process_time()
    for now_ms in range(_START_MS + _STEP_MS, _START_MS + seconds * 1000 + 1, _STEP_MS):
        step = time.process_time()
        for frame in market.advance(now_ms):
            events += frame.count(b'{"ev":')
            size += len(frame)
        worst_s = max(worst_s, time.process_time() - step)
    rate = events / (time.process_time() - begin)
    click.echo(
        f"{rate:,.0f} events/s of CPU, {size / events:.0f} bytes each; the longest step took {worst_s * 1000:.1f} ms"
    )
    sys.exit(0 if rate >= _TARGET else 1)


if __name__ == "__main__":
    main()
