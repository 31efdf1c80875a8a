"""``docs/bench.svg``: rates as bars, median with a whisker from the slowest to the fastest round."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.measure import Figure

WIDTH, LABELS, RIGHT = 870, 262, 90  # px: the picture, the labels' column, room for the figures
BAR, STEP, HEAD, FOOT = 15, 22, 64, 34
COLOURS = {
    "khata": "#0b6e99",
    "classic": "#b3541e",
    "hordak": "#6b7280",
    "pgledger": "#8a6d1a",
    "tigerbeetle": "#5b4b8a",
}
NAMES = {
    ("hordak", "single"): "django-hordak, {} processes",
    ("pgledger", "single"): "pgledger, {} clients",
    ("classic", "single"): "hand-rolled, {} clients",
    ("tigerbeetle", "single"): "TigerBeetle (Python), {} tasks",
    ("tigerbeetle", "bulk"): "TigerBeetle (Python), batches of {}",
    ("khata", "single"): "Khata writer, {} callers",
    ("khata", "bulk"): "Khata bulk, batches of {}",
}
SINGULAR = {"processes": "process", "clients": "client", "tasks": "task", "callers": "caller"}
TITLES = {"uniform": "10,000 accounts, evenly", "hot": "95 % on one account"}


def draw(figures: Sequence[Figure]) -> str:
    """An SVG of the transfers; an empty one when there are none."""
    panels = [(title, _bars(figures, load)) for load, title in TITLES.items()]
    most = max((f.max for _, bars in panels for _, f in bars), default=1.0)
    body: list[str] = []
    y = HEAD
    for title, bars in panels:
        body.append(_text(16, y + 4, title, size=13, weight="600"))
        y += 14
        for name, figure in bars:
            body += _bar(name, figure, y, most)
            y += STEP
        y += 22
    height = y + FOOT - 22
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
            ' font-family="system-ui, sans-serif" fill="#1f2933">',
            "<title>Durable transfers a second: Khata and other ledgers</title>",
            f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
            _text(16, 28, "Durable transfers a second, one machine, one run", size=16, weight="600"),
            *body,
            _text(16, height - 14, "Median of the rounds; whisker: slowest to fastest round.", size=11),
            "</svg>",
            "",
        )
    )


def _bars(figures: Sequence[Figure], load: str) -> list[tuple[str, Figure]]:
    bars: list[tuple[str, Figure]] = []
    for key, name in NAMES.items():
        for f in figures:
            kind, of_load, size = f.case.split("/")
            if (f.system, kind, of_load) == (*key, load):
                bars.append((_words(name, int(size)), f))
    return bars


def _words(name: str, size: int) -> str:
    words = name.format(f"{size:,}")
    head, _, last = words.rpartition(" ")
    return f"{head} {SINGULAR[last]}" if size == 1 and last in SINGULAR else words


def _bar(name: str, figure: Figure, y: int, most: float) -> list[str]:
    def x(rate: float) -> float:
        return round(LABELS + (WIDTH - LABELS - RIGHT) * rate / most, 1)

    middle = y + BAR / 2
    return [
        _text(LABELS - 10, y + 12, name, size=12, anchor="end"),
        f'<rect x="{LABELS}" y="{y}" width="{round(x(figure.rate_per_s) - LABELS, 1)}" height="{BAR}"'
        f' fill="{COLOURS[figure.system]}"/>',
        f'<path d="M{x(figure.min)} {middle}H{x(figure.max)}M{x(figure.min)} {y + 4}V{y + BAR - 4}'
        f'M{x(figure.max)} {y + 4}V{y + BAR - 4}" stroke="#1f2933" stroke-opacity=".55" fill="none"/>',
        _text(round(x(figure.max) + 7), y + 12, f"{figure.rate_per_s:,.0f}", size=12),
    ]


def _text(x: float, y: float, words: str, *, size: int, weight: str = "400", anchor: str = "start") -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}"'
        f' text-anchor="{anchor}">{escape(words)}</text>'
    )
