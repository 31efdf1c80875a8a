"""Alembic environment: runs the numbered SQL files as ``khata_owner`` on the connection it is handed."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    transaction_per_migration=True,
    version_table="migration",
    version_table_schema="khata",
)
with context.begin_transaction():
    context.run_migrations()
