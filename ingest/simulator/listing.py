"""Which symbols there are: where each is listed, its LULD tier, and what it may cost.  Pure."""

from typing import Final, NamedTuple
from zlib import crc32

DOLLAR: Final = 10_000  # prices are whole numbers of 1/10,000 dollar everywhere in this package
_FIRST_RANKS: Final = 3  # flattens the head of the list, so that the first symbol does not get half of everything


class Listing(NamedTuple):
    symbol: str
    tape: int  # 1 NYSE, 2 NYSE Arca and American, 3 Nasdaq
    tier: int  # of the LULD plan: 1 large indices and busy ETFs, 2 the others
    price: int  # to start from
    weight: int  # its part of all events


# symbol, tape, price in dollars; all are tier 1
_KNOWN: Final = """
AAPL 3 271.5  MSFT 3 472.1  NVDA 3 178.9  AMZN 3 220.7  GOOGL 3 299.7  GOOG 3 299.9  META 3 594.3  TSLA 3 391.1
BRK.A 1 752000  BRK.B 1 501.3  JPM 1 298.0  V 1 328.0  UNH 1 319.9  XOM 1 117.1  LLY 1 1059.7  JNJ 1 203.9
WMT 3 105.3  MA 1 540.0  PG 1 150.9  AVGO 3 340.2  HD 1 343.3  CVX 1 149.9  MRK 1 97.7  COST 3 899.1
ABBV 1 236.3  PEP 3 148.5  KO 1 72.9  ADBE 3 324.9  CRM 1 227.1  BAC 1 51.6  ACN 1 249.0  MCD 1 309.9
NFLX 3 104.3  AMD 3 203.8  LIN 3 410.1  CSCO 3 76.1  TMO 1 588.2  INTC 3 34.5  ABT 1 128.4  DIS 1 104.2
ORCL 1 198.8  QCOM 3 163.3  IBM 1 297.4  GE 1 291.1  F 1 12.8  PLTR 3 154.9
SPY 2 659.0  QQQ 3 590.1  IWM 2 235.6  DIA 2 462.5
"""
_WORDS: Final = _KNOWN.split()
_TABLE: Final = {
    symbol: (int(tape), round(float(price) * DOLLAR))
    for symbol, tape, price in zip(_WORDS[::3], _WORDS[1::3], _WORDS[2::3], strict=True)
}
SYMBOLS: Final = tuple(_TABLE)


def make_listings(symbols: tuple[str, ...]) -> list[Listing]:
    """One for each symbol, the busiest first.  A symbol that we do not know gets what its name says."""
    return [_make_listing(symbol, rank) for rank, symbol in enumerate(symbols)]


def _make_listing(symbol: str, rank: int) -> Listing:
    weight = 100_000 // (rank + _FIRST_RANKS)
    if symbol in _TABLE:
        tape, price = _TABLE[symbol]
        return Listing(symbol, tape, 1, price, weight)
    number = crc32(symbol.encode())
    dollars = (0.35, 2.4, 7.9, 18.0, 33.0, 61.0, 88.0, 140.0)[number % 8]
    price = round(dollars * DOLLAR * (1 + (number >> 8) % 1000 / 2000))
    price -= price % (100 if price >= DOLLAR else 1)
    return Listing(symbol, 1 + (number >> 3) % 3, 2, price, weight)


def get_round_lot(price: int) -> int:
    """Shares in a round lot (Regulation NMS rule 600(b)(93), in force since November 2025)."""
    for most, lot in ((250 * DOLLAR, 100), (1_000 * DOLLAR, 40), (10_000 * DOLLAR, 10)):
        if price <= most:
            return lot
    return 1
