"""The story ``khata demo`` tells: three merchants, a bank that misbehaves, and books that come out right."""

from __future__ import annotations

from typing import ClassVar

from khata.errors import KhataError


class StoryFailed(KhataError):
    """Something went another way than the story says; it stops there."""

    code: ClassVar[str] = "story_failed"
