"""Alembic's environment: ``runtime.database.migrate`` hands over the open connection."""

from alembic import context

from runtime.database import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
