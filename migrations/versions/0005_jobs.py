"""jobs: procrastinate's own schema, as the pinned release ships it, in the schema ``procrastinate``."""

from importlib.resources import files

from alembic import op

revision = "0005"
down_revision = "0004"

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA procrastinate TO khata_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA procrastinate TO khata_app;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA procrastinate TO khata_app;
GRANT SELECT ON ALL TABLES IN SCHEMA procrastinate TO khata_audit;
"""


def upgrade() -> None:
    connection = op.get_bind().connection.driver_connection
    # Its script names nothing by schema; its functions find their tables by the worker's search_path too.
    connection.execute("SET LOCAL search_path = procrastinate, pg_catalog")
    connection.execute(files("procrastinate").joinpath("sql/schema.sql").read_bytes())
    connection.execute(GRANTS)
    connection.execute("SET LOCAL search_path TO DEFAULT")
