"""The one root of what the wiring itself raises: configuration, database, bootstrap, workers."""

from __future__ import annotations

from typing import ClassVar


class KhataError(Exception):
    """Root of every error of this package. ``code`` never changes once published."""

    code: ClassVar[str] = "khata_error"
