"""retention."""

import datetime as dt

import sqlalchemy as sa
from alembic import op

ERASABLE = sa.text("target IS NOT NULL AND status IN ('completed', 'cancelled', 'refused', 'failed')")
KINDS = ("rows", "litter", "compaction")
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

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
    op.create_index(
        "ix_forget_requests_erasable",
        "forget_requests",
        ["updated_at"],
        postgresql_where=ERASABLE,
        sqlite_where=ERASABLE,
    )
    sweeps = op.create_table(
        "sweeps",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("due", sa.Boolean(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_sweeps")),
    )
    # Every kind has had a turn long ago, so that taking one is a change of a row that exists.
    op.bulk_insert(
        sweeps,
        [{"kind": kind, "due": False, "begun_at": LONG_AGO, "finished_at": LONG_AGO} for kind in KINDS],
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
    op.drop_index("ix_forget_requests_erasable", "forget_requests")
    for table, column, _kind in reversed(ADDED):
        op.drop_column(table, column)
