"""libpq URLs, and the five of them that Khata's processes use."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict


@dataclass(frozen=True)
class Database:
    """One prepared database, as each role sees it: libpq URLs. ``repr`` shows no password."""

    admin_dsn: str
    owner_dsn: str
    app_dsn: str
    audit_dsn: str
    merchant_dsn: str

    def __repr__(self) -> str:
        facts = conninfo_to_dict(self.app_dsn)
        return f"Database({facts.get('host')}:{facts.get('port')}/{facts.get('dbname')})"


def make_dsn(host: str, port: int, user: str, password: str, database: str) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{login}@{host}:{port}/{quote(database, safe='')}"


def with_parts(dsn: str, *, database: str, user: str | None = None, password: str | None = None) -> str:
    """``dsn`` (URL or key=value form) with another database and, if given, another user and password.

    Everything else is kept in the query: several hosts, socket directories, ``target_session_attrs``, TLS.
    A client certificate stays with the user it was given for.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    if user is not None:
        for name in ("password", "passfile", "sslcert", "sslkey"):
            parts.pop(name, None)
        parts["user"] = user
    if password is not None:
        parts["password"] = password
    parts.pop("dbname", None)
    host, port = parts.get("host", ""), parts.get("port", "")
    location = ""
    if host and not host.startswith(("/", "@")) and "," not in host:
        del parts["host"]
        parts.pop("port", None)
        location = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    login = quote(parts.pop("user", ""), safe="")
    if "password" in parts:
        login += ":" + quote(parts.pop("password"), safe="")
    query = f"?{urlencode(parts, quote_via=quote)}" if parts else ""
    return f"postgresql://{login}{'@' if login else ''}{location}/{quote(database, safe='')}{query}"


def sqlalchemy_url(dsn: str) -> str:
    """The same URL for SQLAlchemy's psycopg dialect (sync and async)."""
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)
