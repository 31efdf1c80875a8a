"""a hold that is placed is written once; one posting has its own way"""

from migrations.run_sql import run_sql

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_sql("0016_leaner_append.sql")
