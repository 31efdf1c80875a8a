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
from unicodedata import category

import fontpkg
from fontTools.ttLib import TTFont
from fpdf import FPDF

_FONT = "Noto Sans"
# From here on letters may need shaping; punctuation, currency signs and arrows between them do not.
_SHAPED_FROM, _SIGNS = 0x300, range(0x2000, 0x2300)
_VIRAMA, _LONGEST_LETTER = "\u094d", 8
INK, MUTED, RULE = (29, 27, 38), (92, 89, 106), (227, 223, 213)
MARGIN_MM, _FOOT_MM = 14.0, 20.0
_MM_PER_POINT = 0.53  # of line height, with leading
Align = Literal["L", "R"]


class Sheet(FPDF):
    """A4. ``write_line`` and ``fits`` work in millimetres from the left margin and the current height."""

    def __init__(self, *, title: str, foot: str, made_at: datetime) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self._advances: dict[float, dict[str, float]] = {}  # mm, by size and letter
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
        """``text`` as lines of at most ``width`` in the current style; a longer word is broken where it must be.

        Linear in ``text``, whoever wrote it: each letter is measured once for each size of type, a line once when it
        is full.
        """
        lines, line, used = list[str](), "", 0.0
        for part, wide, space in self._parts(drawable(text), width):
            if line and used + wide > width:
                lines.append(line)
                line, used = "", 0.0
            line, used = line + part, used + wide + space
        full = (line.rstrip() for line in (*lines, line))
        return [part for line in full if line for part in self._fitting(line, width)]

    def _parts(self, text: str, width: float) -> Iterator[tuple[str, float, float]]:
        """Words, each with the space after it, and the widths of both; the letters of a word no line can hold."""
        space = self._advance(" ")
        for word in text.split(" "):
            letters = [(letter, self._advance(letter)) for letter in _letters(word)]
            wide = sum(advance for _, advance in letters)
            if wide > width:
                yield from ((letter, advance, 0.0) for letter, advance in letters)
                yield " ", 0.0, space
            else:
                yield f"{word} ", wide, space

    def _fitting(self, line: str, width: float) -> Iterator[str]:
        """``line``, in halves where letters that belong to no language are drawn wider together than apart."""
        if is_shaped(line) and len(line) > 1 and self._width(line) > width:
            middle = len(line) // 2
            for half in (line[:middle].rstrip(), line[middle:].strip()):
                yield from self._fitting(half, width)
        elif line:
            yield line

    def _advance(self, letter: str) -> float:
        known = self._advances.setdefault(self.font_size_pt, {})
        if letter not in known:
            known[letter] = self._width(letter)
        return known[letter]

    def _width(self, text: str) -> float:
        self._shape_for(text)
        return self.get_string_width(text)

    def _shape_for(self, text: str) -> None:
        # Only where it is needed: it costs more than all the rest.
        self.set_text_shaping(is_shaped(text))

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


def is_shaped(text: str) -> bool:
    """Whether letters of ``text`` may join or change places."""
    return any(ord(c) >= _SHAPED_FROM and ord(c) not in _SIGNS for c in text)


def _letters(word: str) -> Iterator[str]:
    """Letters with the marks on them and what a virama joins to them, as far as ``_LONGEST_LETTER``."""
    letter = ""
    for character in word:
        joined = category(character).startswith("M") or letter.endswith(_VIRAMA)
        if letter and (not joined or len(letter) == _LONGEST_LETTER):
            yield letter
            letter = ""
        letter += character
    if letter:
        yield letter


def drawable(text: str) -> str:
    """``text`` with ``[U+1F600]`` for what the font cannot draw."""
    return "".join(c if ord(c) in _drawn() else f"[U+{ord(c):04X}]" for c in text)
