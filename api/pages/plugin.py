"""Puts the pages into the application: ``create_app(deps, plugins=[Pages()])``."""

from __future__ import annotations

from litestar import Router
from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin

from api.pages import checkout, merchant, sign_in, statements
from api.pages.errors import answer_page


class Pages(InitPlugin):
    """All pages, with errors told as pages."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        handlers = [*checkout.routes, *sign_in.routes, *merchant.routes, *statements.routes]
        app_config.route_handlers.append(
            Router(
                "/",
                route_handlers=handlers,
                exception_handlers={Exception: answer_page},
                include_in_schema=False,
            )
        )
        return app_config
