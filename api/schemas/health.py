"""Answers of the health routes."""

from __future__ import annotations

from typing import Literal

from api.schemas.base import View


class HealthView(View):
    status: Literal["ok"]
