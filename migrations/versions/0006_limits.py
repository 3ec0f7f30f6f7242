"""Limits against floods, what asks for them quickly, and what leads a trace from a request to its job."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPEN = sa.text("status IN ('pending', 'running', 'needs_review', 'failed')")


def upgrade() -> None:
    with op.batch_alter_table("forget_requests") as table:
        table.add_column(sa.Column("limit_waived_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("traceparent", sa.String(length=55), nullable=True))
    op.create_index(
        "ix_forget_requests_open",
        "forget_requests",
        ["status", "due_at"],
        unique=False,
        postgresql_where=OPEN,
        sqlite_where=OPEN,
    )


def downgrade() -> None:
    op.drop_index("ix_forget_requests_open", table_name="forget_requests")
    with op.batch_alter_table("forget_requests") as table:
        table.drop_column("traceparent")
        table.drop_column("limit_waived_at")
