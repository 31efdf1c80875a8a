"""The table and the picture, from figures alone."""

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
    out = Table(title="Medians a second, every guarantee on")
    for name in ("case", "system", "counted"):
        out.add_column(name)
    for name in ("median /s", "min", "max", "p50 ms", "p99 ms", "× classic"):
        out.add_column(name, justify="right")
    for f in figures:
        other = rival(f, figures)
        ratio = f"{f.rate_per_s / other.rate_per_s:.1f} ({other.case.rsplit('/', 1)[1]})" if other else ""
        waits = ["" if w is None else f"{w:.2f}" for w in (f.p50_ms, f.p99_ms)]
        rates = [f"{rate:,.0f}" for rate in (f.rate_per_s, f.min, f.max)]
        out.add_row(f.case, f.system, f.unit, *rates, *waits, ratio)
    return out


def draw(figures: Sequence[Figure]) -> str:
    return ""
