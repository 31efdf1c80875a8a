"""Runs the migrations of ``migrations/`` (forward only) through Alembic, without an alembic.ini."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine

from khata.database import sqlalchemy_url


def migrate(owner_dsn: str) -> None:
    """Bring the database to the newest migration, as ``khata_owner``; each script is one transaction."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.set_main_option("path_separator", "os")
    engine = create_engine(sqlalchemy_url(owner_dsn), poolclass=NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
