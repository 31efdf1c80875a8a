"""the transparency log: runs, tiles, checkpoints, cosignatures and keys"""

from migrations.run_sql import run_sql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql("0014_log.sql")
