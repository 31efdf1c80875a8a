"""The table, from figures alone."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bench.measure import Figure

# Each Khata case is held against the classic's case of the same load; the bulk path against 16 clients.
BULK_RIVAL = 16


def rival(figure: Figure, figures: Sequence[Figure]) -> Figure | None:
    """The classic's figure that a Khata figure is compared with; None where the classic has no such case."""
    kind, load, size = figure.case.split("/")
    wanted = {"single": f"single/{load}/{size}", "bulk": f"single/{load}/{BULK_RIVAL}"}.get(kind)
    found = [f for f in figures if f.system == "classic" and f.case == wanted]
    return found[0] if found and figure.system != "classic" else None


def table(figures: Sequence[Figure]) -> Table:
    out = Table(title="Medians of the rounds; every guarantee of the ledger on")
    for name in ("case", "system"):
        out.add_column(name, no_wrap=True)
    for name in ("median/s", "min–max", "p50/p99 ms", "× classic"):
        out.add_column(name, justify="right", no_wrap=True)
    for f in figures:
        other = rival(f, figures)
        waits = f"{f.p50_ms:.1f}/{f.p99_ms:.1f}" if f.p50_ms is not None and f.p99_ms is not None else ""
        out.add_row(
            f.case,
            f.system,
            f"{f.rate_per_s:,.0f}",
            f"{f.min:,.0f}–{f.max:,.0f}",
            waits,
            f"{f.rate_per_s / other.rate_per_s:.2f} ({other.case.rsplit('/', 1)[1]})" if other else "",
        )
    return out
