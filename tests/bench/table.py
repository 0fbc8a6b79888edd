"""The numbers of a run, their targets, and whether each was met.  Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.latency import find_percentile_ms, subtract_histograms
from tests.bench.pipeline import Snapshot

_FAULTS = ("lost", "doubled", "reordered", "foreign", "malformed", "unseen", "disconnects", "behind")


@dataclass(frozen=True, slots=True)
class Row:
    """One number.  `least` and `most` are its target; a number with neither is only told; None always misses."""

    name: str
    value: float | None
    least: float | None = None
    most: float | None = None
    remark: str = ""

    @property
    def is_met(self) -> bool:
        if self.least is None and self.most is None:
            return True
        low = float("-inf") if self.least is None else self.least
        high = float("inf") if self.most is None else self.most
        return self.value is not None and low <= self.value <= high

    @property
    def target(self) -> str:
        low = "" if self.least is None else f">= {_show(self.least)}"
        high = "" if self.most is None else "none" if self.most == 0 else f"<= {_show(self.most)}"
        return low or high

    @property
    def verdict(self) -> str:
        return "" if not self.target else "pass" if self.is_met else "MISS"


@dataclass(frozen=True, slots=True)
class Run:
    """All that was found between two snapshots, and by the end."""

    rate: float  # events/s that the held channels should have got
    begin: Snapshot
    end: Snapshot
    load: dict[str, Any]  # the load's report
    probe: dict[str, Any]  # the probe's report
    rss_max_mb: dict[str, float]  # by process name

    @property
    def seconds(self) -> float:
        return self.end.at - self.begin.at

    @property
    def sent_rate(self) -> float | None:
        """Events/s that the fake sent, by its lines in between."""
        lines = self.end.fake_lines[len(self.begin.fake_lines) :]
        return sum(line["rate"] for line in lines) / len(lines) if lines else None

    def get_cpu_s(self, prefix: str) -> float:
        """Of all processes whose name begins so."""
        return sum(self.end.cpu_s[name] - self.begin.cpu_s[name] for name in self.end.cpu_s if name.startswith(prefix))


def make_rows(run: Run) -> list[Row]:
    """The table, issue's numbers first."""
    return [*_describe_stream(run), *_describe_product(run), *_describe_cost(run)]


def render(rows: Sequence[Row]) -> str:
    """For a terminal."""
    cells = [
        ("number", "measured", "target", "", ""),
        *((r.name, _show(r.value), r.target, r.verdict, r.remark) for r in rows),
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:<{widths[3]}}  {row[4]}".rstrip()
        for row in cells
    )


def _describe_stream(run: Run) -> list[Row]:
    lines = run.end.fake_lines[len(run.begin.fake_lines) :]
    late = run.end.fake_lines[-1]["late"] - run.begin.fake_lines[-1]["late"] if lines and run.begin.fake_lines else None
    events, frames = _count(run, "events"), _count(run, "frames")
    return [
        Row("events/s in", run.sent_rate, least=0.99 * run.rate, remark="sent by the fake"),
        Row("events skipped by the fake", late, remark="it, or ingest, was too far behind"),
        Row("events/s delivered", events / run.seconds),
        Row("events per frame", events / frames if frames else None),
        *(Row(fault, run.load[fault], most=0) for fault in _FAULTS),
    ]


def _describe_product(run: Run) -> list[Row]:
    latency = subtract_histograms(run.end.latency, run.begin.latency)
    own = run.load["marks"][1]["latency_ms_with_own_delay"]
    watched = [name for name in run.rss_max_mb if name.startswith(("ingest", "gateway"))]
    note = "ingest's receive to the gateway's write"
    return [
        Row("gateway p50, ms", find_percentile_ms(latency, 0.5), remark=note),
        Row("gateway p99, ms", find_percentile_ms(latency, 0.99), most=10, remark=note),
        Row("gateway max, ms", find_percentile_ms(latency, 1.0), remark=note),
        Row("end to end p50, ms", own["p50"], remark="fake's clock to client's; its own delay included"),
        Row("end to end p99, ms", own["p99"], remark="the same"),
        *(Row(f"{name} RSS max, MB", run.rss_max_mb[name], most=150) for name in watched),
        Row("failed probes", len(run.probe["failures"]), most=0),
        *(_describe_probe(run, kind, rank) for kind in ("held", "fresh") for rank in ("p50", "p99")),
    ]


def _describe_probe(run: Run, kind: str, rank: str) -> Row:
    remark = f"a channel {'held by others' if kind == 'held' else 'new to upstream'}; {run.probe['count']} probes"
    most = 100 if rank == "p99" else None
    return Row(f"connect, auth, {kind} ack {rank}, ms", run.probe[kind].get(rank), most=most, remark=remark)


def _describe_cost(run: Run) -> list[Row]:
    delivered = _count(run, "events")
    arrived = round((run.sent_rate or 0) * run.seconds)
    names = {"redis": delivered, "ingest": arrived, "gateway": delivered, "fake": arrived, "load": delivered}
    rows = [Row(f"{name} CPU, cores", run.get_cpu_s(name) / run.seconds) for name in names]
    per_event = [
        Row(
            f"{name} CPU, us per event {'in' if count is arrived else 'delivered'}",
            run.get_cpu_s(name) / count * 1e6 if count else None,
        )
        for name, count in names.items()
    ]
    others = run.end.machine_cpu_s - run.begin.machine_cpu_s - run.get_cpu_s("")
    remark = "if not near 0, the times above are not ours"
    disturbance = Row("others' CPU, cores", max(0.0, others / run.seconds), remark=remark)
    return [*rows, disturbance, *per_event]


def _count(run: Run, kind: str) -> int:
    """Between the load's own marks, which it set at our snapshots."""
    begin, end, *_ = run.load["marks"]
    return int(end[kind] - begin[kind])


def _show(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
