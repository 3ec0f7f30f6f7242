"""Alembic migrations, for SQLite and PostgreSQL alike."""

HEAD = "0006"
"""The newest revision. Written down, so that a process that only compares need not read all of them."""
