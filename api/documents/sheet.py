"""A sheet of paper to write lines of text on: fonts, wrapping, and a foot that says what a loose sheet belongs to.

fpdf2 with Noto Sans (SIL Open Font Licence) embedded: Latin, Greek, Cyrillic, Devanagari, signs of currencies. Where
letters join or change places the text is shaped (HarfBuzz); a character that the font has not is written as its code
point, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any, Literal, cast

import fontpkg
from fontTools.ttLib import TTFont
from fpdf import FPDF

_FONT = "Noto Sans"
# From here on letters may need shaping; punctuation, currency signs and arrows between them do not.
_SHAPED_FROM, _SIGNS = 0x300, range(0x2000, 0x2300)
INK, MUTED, RULE = (29, 27, 38), (92, 89, 106), (227, 223, 213)
MARGIN_MM, _FOOT_MM = 14.0, 20.0
_MM_PER_POINT = 0.53  # of line height, with leading
Align = Literal["L", "R"]


class Sheet(FPDF):
    """A4. ``write_line`` and ``fits`` work in millimetres from the left margin and the current height."""

    def __init__(self, *, title: str, foot: str, made_at: datetime) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self.set_margins(MARGIN_MM, MARGIN_MM)
        self.set_auto_page_break(False)
        self.add_font(_FONT, fname=fontpkg.path(_FONT))
        self.set_draw_color(*RULE)
        self.set_title(title)
        self.set_creator("Khata")
        self.set_creation_date(made_at)

    def fits(self, height_mm: float) -> bool:
        return self.get_y() + height_mm <= self.h - _FOOT_MM

    def style(self, size: float, colour: tuple[int, int, int] = INK) -> float:
        """Set size and colour; returns the height of a line."""
        self.set_font(_FONT, size=size)
        self.set_text_color(*colour)
        return size * _MM_PER_POINT

    def write_line(self, text: str, x: float, width: float, height: float, align: Align = "L") -> None:
        """One line of text at ``x``; the current height stays."""
        y = self.get_y()
        self._shape_for(text)
        self.set_xy(MARGIN_MM + x, y)
        self.cell(width, height, text, align=align)
        self.set_y(y)

    def wrapped(self, text: str, width: float) -> list[str]:
        """``text`` as lines of at most ``width`` in the current style; a longer word is broken where it must be."""
        lines, line = list[str](), ""
        for part in self._parts(drawable(text), width):
            if line and self._width(line + part) > width:
                lines.append(line)
                line = ""
            line += part
        return [line.rstrip() for line in (*lines, line) if line.strip()]

    def _parts(self, text: str, width: float) -> Iterator[str]:
        """Words, each with the spaces after it; single characters of a word that no line can hold."""
        for word in text.split(" "):
            if self._width(word) > width:
                yield from word
                yield " "
            else:
                yield f"{word} "

    def _width(self, text: str) -> float:
        self._shape_for(text)
        return self.get_string_width(text.rstrip())

    def _shape_for(self, text: str) -> None:
        # Only where it is needed: it costs more than all the rest.
        self.set_text_shaping(any(ord(c) >= _SHAPED_FROM and ord(c) not in _SIGNS for c in text))

    def footer(self) -> None:
        self.set_y(-15)
        height = self.style(7, MUTED)
        self.write_line(self._foot, 0, 150, height)
        self.write_line(f"{self.page_no()} of {{nb}}", 150, self.epw - 150, height, "R")


@cache
def _drawn() -> frozenset[int]:
    """The code points that the font has a glyph for."""
    with TTFont(fontpkg.path(_FONT), lazy=True) as opened:
        return frozenset(cast(dict[int, Any], opened.getBestCmap()))


def drawable(text: str) -> str:
    """``text`` with ``[U+1F600]`` for what the font cannot draw."""
    return "".join(c if ord(c) in _drawn() else f"[U+{ord(c):04X}]" for c in text)
