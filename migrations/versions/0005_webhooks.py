"""Webhooks, and due dates that were put off."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

GROUNDS = (
    "unfounded",
    "excessive",
    "identity_not_proven",
    "freedom_of_expression",
    "legal_obligation",
    "public_health",
    "archiving_or_research",
    "legal_claims",
    "other",
)


def upgrade() -> None:
    with op.batch_alter_table("forget_requests") as batch_op:
        batch_op.add_column(sa.Column("extended_at", sa.DateTime(timezone=True), nullable=True))
        ground = sa.Enum(
            *GROUNDS, name="refusal_ground", native_enum=False, create_constraint=True, length=32
        )
        batch_op.add_column(sa.Column("refusal_ground", ground, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("forget_requests") as batch_op:
        batch_op.drop_constraint(op.f("ck_forget_requests_refusal_ground"), type_="check")
        batch_op.drop_column("refusal_ground")
        batch_op.drop_column("extended_at")
