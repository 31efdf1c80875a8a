"""The database Khata runs on: an embedded PostgreSQL of its own, or the URLs of one that is given."""

from khata.database.dsn import Database, sqlalchemy_url, with_parts
from khata.database.errors import DatabaseError
from khata.database.server import EmbeddedServer

__all__ = ["Database", "DatabaseError", "EmbeddedServer", "sqlalchemy_url", "with_parts"]
