"""retention."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ADDED = (
    ("versions", "destroy_after", sa.DateTime(timezone=True)),
    ("snapshots", "clear_of", sa.BigInteger()),
    ("snapshots", "superseded_at", sa.DateTime(timezone=True)),
    ("snapshots", "destroyed_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    for table, column, kind in ADDED:
        op.add_column(table, sa.Column(column, kind, nullable=True))
    op.create_table(
        "sweeps",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("due", sa.Boolean(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_sweeps")),
    )
    op.create_table(
        "swept_locations",
        sa.Column("location", sa.String(length=512), nullable=False),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("location", name=op.f("pk_swept_locations")),
    )


def downgrade() -> None:
    op.drop_table("swept_locations")
    op.drop_table("sweeps")
    for table, column, _kind in reversed(ADDED):
        op.drop_column(table, column)
