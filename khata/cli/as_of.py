"""The two axes of time as options: days of effect, and what was known."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import rich_click as click


class DayParam(click.ParamType[date]):
    """``2026-11-22``, a UTC day."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value} is not a day such as 2026-11-22", param, ctx)


class KnownParam(click.ParamType["int | datetime"]):
    """A journal's number, or an instant (RFC 3339; without an offset it is UTC)."""

    name = "journal or time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | datetime:
        if isinstance(value, int | datetime):
            return value
        if value.isascii() and value.isdigit() and len(value) <= 18:
            return int(value)
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value} is neither a journal's number nor a time such as 2026-11-22T09:30:00Z", param, ctx
            )
        return at if at.tzinfo else at.replace(tzinfo=UTC)


from_option = click.option("--from", "first", type=DayParam(), help="First day (default: of this month).")
to_option = click.option("--to", "last", type=DayParam(), help="Last day, inclusive (default: today).")
effective_option = click.option(
    "--effective-as-of", "effective", type=DayParam(), help="The last day that counts (default: every day)."
)
known_option = click.option(
    "--known-as-of",
    "known",
    type=KnownParam(),
    help="Only what was known then (default: all that is recorded).",
)


def period(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """The days asked for; by default until today, and from the start of the last day's month."""
    end = last or today
    return first or end.replace(day=1), end
