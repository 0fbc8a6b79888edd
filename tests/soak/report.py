"""The tables of a soak: recoveries against their bounds, the accounts, memory.  Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.soak.ledger import Account
from tests.soak.memory import Growth


@dataclass
class Times:
    """How long one kind of fault took to be over, each time; s."""

    bound_s: float
    seconds: list[float] = field(default_factory=list)

    @property
    def is_met(self) -> bool:
        return all(seconds <= self.bound_s for seconds in self.seconds)


def render_times(times: Mapping[str, Times]) -> str:
    """A row for each fault."""
    rows = [("fault", "times", "median, s", "max, s", "bound, s", "")]
    for name, found in times.items():
        if found.seconds:
            median, worst = statistics.median(found.seconds), max(found.seconds)
            verdict = "pass" if found.is_met else "MISS"
            rows.append((name, str(len(found.seconds)), f"{median:.2f}", f"{worst:.2f}", f"{found.bound_s:g}", verdict))
    return _render(rows)


def render_account(emitted: int, sent: int, account: Account) -> str:
    """What became of all events."""
    rows = [
        ("events", "count", ""),
        ("emitted upstream", f"{emitted:,}", ""),
        ("sent to us (the rest: while we were away)", f"{sent:,}", ""),
        ("delivered to clients", f"{account.delivered:,}", ""),
        *((f"lost, told: {cause}", f"{count:,}", "") for cause, count in account.told.most_common()),
        ("left out for slow clients", f"{account.conflated:,}", f"of {account.conflated_told:,} told"),
        ("repeated after a crash", f"{account.repeated:,}", "allowed: what came in the last second"),
        *((name, f"{count:,}", _judge(count > 0)) for name, count in (
            ("lost without a word", account.unexplained), ("lost and told, without need", account.needless),
            ("doubled otherwise", account.doubled), ("out of order", account.disordered),
            ("foreign", account.foreign), ("malformed", account.malformed),
        )),
    ]  # fmt: skip
    return _render(rows)


def render_memory(growth: Mapping[str, Growth], *, must_be_flat: bool) -> str:
    """Memory of each process; it is judged only if no process was killed."""
    rows: list[tuple[str, ...]] = [
        ("process", "MB, 2nd minute", "minutes 6 to 10", "last 5 minutes", "growth", "< 5 %")
    ]
    for name, found in growth.items():
        judged = _judge(not found.is_flat) if must_be_flat else ""
        rows.append((name, *(f"{mb:.1f}" for mb in found), f"{100 * found.share:+.1f} %", judged))
    return _render(rows)


def _judge(is_bad: bool) -> str:
    return "FAULT" if is_bad else "pass"


def _render(rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown, so that docs can have it as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join(_pad(cell, width, at) for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
        + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)
