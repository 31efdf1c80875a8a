"""What the figures must show: ratios of two cases of one run, compared round by round."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from bench.measure import Measured


@dataclass(frozen=True)
class Target:
    """``case`` of Khata over ``other`` of ``rival`` must be at least ``at_least``, or at most ``at_most``.

    ``of``: rates, or p99 waits. Where several cases are named, the first that was run counts.
    """

    title: str
    case: Sequence[str]
    rival: str
    other: Sequence[str]
    at_least: float | None = None
    at_most: float | None = None
    of: str = "rate"


@dataclass(frozen=True)
class Outcome:
    """``ratio``: the median over the rounds with its extremes. None, like ``met``, when a side was not run."""

    part: str
    title: str
    case: str
    rival: str
    ratio: float | None
    min: float | None
    max: float | None
    rounds: int
    at_least: float | None
    at_most: float | None
    met: bool | None


BULK, BULK_HOT = ("bulk/uniform/8000",), ("bulk/hot/8000",)
PAIRS = ("bulk-hold+capture/uniform/8000", "bulk-hold+capture/uniform/1000")
TWO_BOOKS, ONE_BOOK = ("bulk-2p2b/uniform/8000",), ("bulk-2p1b/uniform/8000",)
TARGETS = (
    Target("bulk", BULK, "classic", ("single/uniform/16",), 9),
    Target("bulk", BULK, "pgledger", ("single/uniform/16",), 25),
    Target("bulk", BULK, "tigerbeetle", ("bulk/uniform/8189",), 1.5),
    Target("bulk, one hot account", BULK_HOT, "khata", BULK, 0.9),
    Target("bulk, one hot account", BULK_HOT, "classic", ("single/hot/16",), 25),
    Target("64 callers", ("single/uniform/64",), "classic", ("single/uniform/64",), 2),
    Target("64 callers", ("single/uniform/64",), "tigerbeetle", ("single/uniform/64",), 1),
    Target(
        "64 callers, p99",
        ("single/uniform/64",),
        "tigerbeetle",
        ("single/uniform/64",),
        at_most=1,
        of="p99",
    ),
    Target("one after the other", ("single/uniform/1",), "tigerbeetle", ("single/uniform/1",), 1),
    Target("hold + capture, batches", PAIRS, "tigerbeetle", ("bulk-hold+capture/uniform/8189",), 1),
    Target(
        "hold + capture, 64 tasks",
        ("hold+capture/uniform/64",),
        "tigerbeetle",
        ("hold+capture/uniform/64",),
        1,
    ),
    Target("two books, two processes", TWO_BOOKS, "khata", BULK, 1.3),
    Target("two books, two processes", TWO_BOOKS, "khata", ONE_BOOK, 1.3),
)


def judge(part: str, targets: Iterable[Target], measured: Sequence[Measured]) -> list[Outcome]:
    """Each target against what was measured in one run."""
    return [_outcome(part, target, measured) for target in targets]


def _outcome(part: str, target: Target, measured: Sequence[Measured]) -> Outcome:
    ours = _find(measured, "khata", target.case)
    theirs = _find(measured, target.rival, target.other)
    ratios = _ratios(target, ours, theirs) if ours and theirs else []
    ratio = statistics.median(ratios) if ratios else None
    return Outcome(
        part=part,
        title=target.title,
        case=ours.case if ours else target.case[0],
        rival=f"{target.rival} {theirs.case if theirs else target.other[0]}",
        ratio=round(ratio, 3) if ratio is not None else None,
        min=round(min(ratios), 3) if ratios else None,
        max=round(max(ratios), 3) if ratios else None,
        rounds=len(ratios),
        at_least=target.at_least,
        at_most=target.at_most,
        met=None if ratio is None else is_met(ratio, target.at_least, target.at_most),
    )


def is_met(ratio: float, at_least: float | None, at_most: float | None) -> bool:
    return (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)


def _find(measured: Sequence[Measured], system: str, cases: Sequence[str]) -> Measured | None:
    for case in cases:
        for m in measured:
            if (m.system, m.case) == (system, case):
                return m
    return None


def _ratios(target: Target, ours: Measured, theirs: Measured) -> list[float]:
    """Round by round: a noisy minute hits both sides of a pair."""
    sides = (ours.rates, theirs.rates) if target.of == "rate" else (ours.p99s, theirs.p99s)
    return [ours / theirs for ours, theirs in zip(*sides, strict=True)]


def targets_table(outcomes: Sequence[Outcome]) -> Table:
    out = Table(title="Targets: medians of the rounds' ratios")
    for name in ("target", "case", "beside"):
        out.add_column(name)
    for name in ("ratio", "min–max", "wanted", "met"):
        out.add_column(name, justify="right", no_wrap=True)
    for o in outcomes:
        wanted = f"≥ {o.at_least:g}" if o.at_least is not None else f"≤ {o.at_most:g}"
        met = "not run" if o.met is None else "[green]yes[/]" if o.met else "[red]no[/]"
        spread = "" if o.min is None else f"{o.min:.2f}–{o.max:.2f}"
        out.add_row(
            o.title, o.case, o.rival, "" if o.ratio is None else f"{o.ratio:.2f}", spread, wanted, met
        )
    return out


def keep(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write into ``path`` in place of the outcomes of the same part; those of other parts stay."""
    parts = {o.part for o in outcomes}
    others = [o for o in json.loads(path.read_text()) if o["part"] not in parts] if path.exists() else []
    path.write_text(json.dumps([*others, *(asdict(o) for o in outcomes)], indent=1) + "\n")
