"""the last checkpoint that a witness signed, by index"""

from migrations.run_sql import run_sql

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_sql("0017_cosignatures_by_witness.sql")
