"""payments written by the batch"""

from migrations.run_sql import run_sql

revision = "0013"
down_revision = "0011"


def upgrade() -> None:
    run_sql("0013_payment_batches.sql")
