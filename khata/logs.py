"""Logs: one JSON object a line on standard error, without card numbers whatever a caller passes in."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict

from gateway.cards import luhn

# As people write card numbers: digits, with single spaces or dashes between.
_DIGITS = re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")


def mask(text: str) -> str:
    """Every card number in ``text`` (13 to 19 digits that pass the Luhn check) replaced by ``[card]``."""

    def hide(found: re.Match[str]) -> str:
        digits = re.sub(r"\D", "", found.group())
        return "[card]" if luhn(digits) else found.group()

    return _DIGITS.sub(hide, text)


def _mask_values(_: Any, __: str, event: EventDict) -> EventDict:
    return {key: mask(value) if isinstance(value, str) else value for key, value in event.items()}


def configure_logs(level: str) -> None:
    """Send structlog and the standard library's logging through one renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _mask_values,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
