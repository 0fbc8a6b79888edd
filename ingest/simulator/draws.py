"""Randomness by the block, and the tables that it is looked up in.  Pure.

One event takes one draw: four numbers of 16 bits out of one call for thousands of them, which costs 60 ns where
random.gauss alone costs 400.  Every event takes exactly one draw whatever becomes of it, so what clients hold cannot
change the market.
"""

from collections.abc import Iterator
from math import log
from random import Random
from statistics import NormalDist
from typing import Final

_BLOCK: Final = 4096  # draws

Draw = tuple[int, int, int, int]


def _make_gaps() -> tuple[float, ...]:
    raw = [-log(1 - (i + 0.5) / 1024) for i in range(1024)]
    mean = sum(raw) / 1024
    return tuple(round(gap / mean, 6) for gap in raw)


# By 10 bits.  Rounded, so that another machine's logarithm cannot make another market.
GAUSS: Final = tuple(round(NormalDist().inv_cdf((i + 0.5) / 1024), 6) for i in range(1024))
GAPS: Final = _make_gaps()  # exponential with mean 1

# 1 NYSE American, 2 Nasdaq BX, 4 FINRA (off exchange), 8 EDGA, 9 EDGX, 10 NYSE, 11 Arca, 12 Nasdaq, 15 IEX, 17 PSX,
# 18 BYX, 19 BZX, 20 MIAX Pearl, 21 MEMX
_BUSY: Final = (4,) * 26 + (12,) * 10 + (11,) * 6 + (10,) * 6 + (19,) * 4 + (9,) * 5
TRADE_EXCHANGES: Final = (*_BUSY, 21, 21, 21, 15, 8, 20, 2)
FINRA: Final = 4  # where trades in the middle of the spread are made
_QUOTE_EXCHANGES: Final = (12, 12, 11, 11, 10, 19, 9, 21, 12, 11, 10, 19, 9, 8, 18, 17)
QUOTE_EXCHANGES: Final = tuple(f'"bx":{bid},"ax":{ask},' for bid in _QUOTE_EXCHANGES for ask in _QUOTE_EXCHANGES)

BID, ASK, MIDDLE = 0, 1, 2  # where a trade is made
SIDES: Final = (BID,) * 27 + (ASK,) * 27 + (MIDDLE,) * 10
MOST_TRADE: Final = 13  # of 64 draws are trades, so four quotes stand by one trade


def make_draws(random: Random) -> Iterator[Draw]:
    """The next block."""
    numbers = iter(memoryview(random.randbytes(8 * _BLOCK)).cast("H"))
    return zip(numbers, numbers, numbers, numbers, strict=True)
