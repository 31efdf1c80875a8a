"""who looked, and who was turned away"""

from migrations.run_sql import run_sql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_sql("0015_access.sql")
