"""One migration is one SQL file; psycopg runs it whole, so it may hold functions and triggers."""

from pathlib import Path

from alembic import op

SQL = Path(__file__).parent / "sql"


def run_sql(name: str) -> None:
    """Run ``migrations/sql/NAME`` as one script in the migration's transaction."""
    connection = op.get_bind().connection.driver_connection
    connection.execute((SQL / name).read_bytes())
