"""A browser that notices: errors in its console, anything loaded from elsewhere, what axe finds."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
_AXE_RUN = """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa",
  "wcag22aa", "best-practice"]})).violations.map(v => ({id: v.id, impact: v.impact, help: v.help,
  nodes: v.nodes.map(n => n.html + " :: " + n.failureSummary)}))"""
# Our own statuses for a form that is not acceptable and a page that is over; Chromium writes each to the console.
_EXPECTED = re.compile(
    r"Failed to load resource: the server responded with a status of (410|422|429|404|403)"
)

# A busy machine is slow, not wrong: what is expected of a page is waited for as long as the page's own calls are.
PATIENCE_MS = 15_000
expect.set_options(timeout=PATIENCE_MS)

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}


def launch(playwright: Playwright) -> Browser:
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing; browser tests need it: apt-get install chromium", pytrace=False)
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))


@dataclass
class Seen:
    """What a page did that it should not."""

    page: Page
    origin: str
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.page.on("request", lambda request: self._requested(request.url))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not _EXPECTED.match(text):
            self.complaints.append(f"console {kind}: {text}")

    def _requested(self, url: str) -> None:
        if not url.startswith((self.origin, "data:")):
            self.complaints.append(f"loaded from elsewhere: {url}")


@contextmanager
def looking(
    browser: Browser, origin: str, *, script: bool = True, size: dict[str, int] = PHONE, scheme: Any = "light"
) -> Generator[Page]:
    """A page of a new browser profile; at the end nothing may have been wrong."""
    context = browser.new_context(
        java_script_enabled=script,
        viewport=size,  # type: ignore[arg-type]
        color_scheme=scheme,
        base_url=origin,
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    seen = Seen(page, origin)
    seen.watch()
    try:
        yield page
        assert seen.complaints == []
    finally:
        context.close()


def assert_accessible(page: Page) -> None:
    """No violation axe knows of, in WCAG 2.2 AA and its best practices; nothing wider than the window."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(_AXE_RUN)
    assert found == [], "\n".join(f"{v['impact']} {v['id']}: {v['help']}\n  {v['nodes']}" for v in found)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
