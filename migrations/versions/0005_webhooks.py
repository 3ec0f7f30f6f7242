"""Webhooks, and due dates that were put off."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

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
    json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.String(length=1000), nullable=False),
        sa.Column(
            "format",
            sa.Enum(
                "standard", "opendsr", name="format", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("description", sa.String(length=200), nullable=True),
        sa.Column(
            "subscription",
            sa.Enum(
                "all", "callbacks", name="subscription", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("models", json, nullable=True),
        sa.Column("secret", sa.LargeBinary(length=32), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(length=32), nullable=True),
        sa.Column("previous_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_reason", sa.String(length=500), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_webhook_endpoints_api_key_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "uq_webhook_endpoints_url_format",
        "webhook_endpoints",
        ["url", "format"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "webhook_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("payload", json, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(length=500), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_messages_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_messages")),
    )
    op.create_index(
        "ix_webhook_messages_next_attempt_at",
        "webhook_messages",
        ["next_attempt_at"],
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
        sqlite_where=sa.text("next_attempt_at IS NOT NULL"),
    )
    op.create_index(
        "ix_webhook_messages_endpoint_id_created_at_id",
        "webhook_messages",
        ["endpoint_id", "created_at", "id"],
    )
    op.create_table(
        "opendsr_requests",
        sa.Column("subject_request_id", sa.Uuid(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column("regulation", sa.String(length=16), nullable=False),
        sa.Column("callback_endpoints", json, nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_opendsr_requests_api_key_id")),
        sa.PrimaryKeyConstraint("subject_request_id", name=op.f("pk_opendsr_requests")),
    )
    with op.batch_alter_table("forget_requests") as batch_op:
        batch_op.add_column(sa.Column("extended_at", sa.DateTime(timezone=True), nullable=True))
        ground = sa.Enum(
            *GROUNDS, name="refusal_ground", native_enum=False, create_constraint=True, length=32
        )
        batch_op.add_column(sa.Column("refusal_ground", ground, nullable=True))
        batch_op.add_column(sa.Column("webhook_endpoint_id", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_forget_requests_webhook_endpoint_id"),
            "webhook_endpoints",
            ["webhook_endpoint_id"],
            ["id"],
        )
        batch_op.add_column(sa.Column("opendsr_request_id", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_forget_requests_opendsr_request_id"),
            "opendsr_requests",
            ["opendsr_request_id"],
            ["subject_request_id"],
        )
        batch_op.create_index(op.f("ix_forget_requests_opendsr_request_id"), ["opendsr_request_id"])


def downgrade() -> None:
    with op.batch_alter_table("forget_requests") as batch_op:
        batch_op.drop_index(op.f("ix_forget_requests_opendsr_request_id"))
        batch_op.drop_constraint(op.f("fk_forget_requests_opendsr_request_id"), type_="foreignkey")
        batch_op.drop_column("opendsr_request_id")
        batch_op.drop_constraint(op.f("fk_forget_requests_webhook_endpoint_id"), type_="foreignkey")
        batch_op.drop_column("webhook_endpoint_id")
        batch_op.drop_constraint(op.f("ck_forget_requests_refusal_ground"), type_="check")
        batch_op.drop_column("refusal_ground")
        batch_op.drop_column("extended_at")
    op.drop_table("opendsr_requests")
    op.drop_table("webhook_messages")
    op.drop_table("webhook_endpoints")
