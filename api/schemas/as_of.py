"""The two axes of time as a query asks about them."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from api.schemas.base import InstantIn


def _in_range(day: date) -> date:
    if not 2000 <= day.year <= 2199:
        raise PydanticCustomError("day_out_of_range", "between the years 2000 and 2199")
    return day


Day = Annotated[date, AfterValidator(_in_range), Field(examples=["2026-11-22"])]
# A journal's number first: read as an instant, a bare number would be seconds since 1970.
KnownAsOf = Annotated[
    Annotated[int, Field(ge=0, le=2**63 - 1)] | InstantIn,
    Field(
        union_mode="left_to_right",
        description="What was known then: the number of a journal, or an instant of recording",
        examples=["2026-11-29T09:30:00Z"],
    ),
]
