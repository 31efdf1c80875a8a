"""one statement posts a batch, behind a compare-and-set on the book's version"""

from migrations.run_sql import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql("0011_append.sql")
