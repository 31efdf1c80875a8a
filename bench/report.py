"""The table, from figures alone."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bench.measure import Figure


def table(figures: Sequence[Figure], title: str = "Medians of the rounds; every guarantee on") -> Table:
    out = Table(title=title)
    for name in ("case", "system"):
        out.add_column(name, no_wrap=True)
    for name in ("median/s", "min–max", "p50/p99 ms", "CPU µs client+server"):
        out.add_column(name, justify="right", no_wrap=True)
    for f in sorted(figures, key=lambda f: (f.case.split("/")[:2], int(f.case.rsplit("/", 1)[1]), f.system)):
        waits = f"{f.p50_ms:.1f}/{f.p99_ms:.1f}" if f.p50_ms is not None and f.p99_ms is not None else ""
        cpu = " + ".join(f"{us:,.0f}" if us is not None else "?" for us in (f.client_cpu_us, f.server_cpu_us))
        out.add_row(
            *(f.case, f.system, f"{f.rate_per_s:,.0f}", f"{f.min:,.0f}–{f.max:,.0f}", waits, cpu),
        )
    return out
