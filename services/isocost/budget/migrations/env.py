"""Runs the migrations on the connection, and in the transaction, that `Database.migrate` gives."""

from alembic import context

from isocost.budget.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
