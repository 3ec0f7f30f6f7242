"""Transparency log and certificates: tables that only grow, guarded by triggers, and a key to commit to ids with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEYS = {
    "log_leaves": ("position",),
    "log_subtrees": ("level", "place"),
    "signing_keys": ("id",),
    "certificate_frames": ("model_id", "version"),
    "certificates": ("forget_request_id",),
    "model_signatures": ("model_id", "version"),
}
"""The tables that nobody may change a row of, with their primary keys."""


def upgrade() -> None:
    op.add_column("forget_requests", sa.Column("commitment_key", sa.LargeBinary(length=32), nullable=True))
    _make_commitment_keys()
    _create_log()
    _create_certificates()
    if op.get_bind().dialect.name == "postgresql":
        _guard_on_postgresql()
    else:
        _guard_on_sqlite()


def downgrade() -> None:
    for table in reversed(KEYS):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")
        op.execute("DROP FUNCTION require_next_leaf()")
    with op.batch_alter_table("forget_requests") as batch_op:
        batch_op.drop_column("commitment_key")


def _make_commitment_keys() -> None:
    """Give a key to every request whose target is still known: its certificate needs one."""
    random = {
        "postgresql": "uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())",
        "sqlite": "randomblob(32)",
    }[op.get_bind().dialect.name]
    op.execute(f"UPDATE forget_requests SET commitment_key = {random} WHERE target IS NOT NULL")  # noqa: S608 - from the two constants above


def _create_log() -> None:
    op.create_table(
        "log_leaves",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_log_leaves")),
    )
    op.create_table(
        "log_subtrees",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("level", "place", name=op.f("pk_log_subtrees")),
    )


def _create_certificates() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum(
                "certificates",
                "checkpoints",
                name="purpose",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_keys")),
    )
    _create_table_of_versions("certificate_frames", sa.Column("text", sa.Text(), nullable=False))
    op.create_table(
        "certificates",
        sa.Column("forget_request_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("own", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.LargeBinary(length=64), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["forget_request_id"], ["forget_requests.id"], name=op.f("fk_certificates_forget_request_id")
        ),
        sa.ForeignKeyConstraint(["key_id"], ["signing_keys.id"], name=op.f("fk_certificates_key_id")),
        sa.ForeignKeyConstraint(["leaf"], ["log_leaves.position"], name=op.f("fk_certificates_leaf")),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["certificate_frames.model_id", "certificate_frames.version"],
            name="fk_certificates_frame",
        ),
        sa.PrimaryKeyConstraint("forget_request_id", name=op.f("pk_certificates")),
        sa.UniqueConstraint("leaf", name=op.f("uq_certificates_leaf")),
    )
    _create_table_of_versions("model_signatures", sa.Column("bundle", sa.Text(), nullable=False))


def _create_table_of_versions(name: str, content: sa.Column[str]) -> None:
    op.create_table(
        name,
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        content,
        sa.ForeignKeyConstraint(
            ["model_id", "version"], ["versions.model_id", "versions.number"], name=f"fk_{name}_version"
        ),
        sa.PrimaryKeyConstraint("model_id", "version", name=op.f(f"pk_{name}")),
    )


def _guard_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME; END $$"
    )
    op.execute(
        "CREATE FUNCTION require_next_leaf() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN IF NEW.position <> (SELECT coalesce(max(position) + 1, 0) FROM log_leaves) THEN "
        "RAISE EXCEPTION 'leaf % of the log is not the next one', NEW.position; END IF; RETURN NEW; END $$"
    )
    for table in KEYS:
        op.execute(
            f"CREATE TRIGGER {table}_never_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_never_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        "CREATE TRIGGER log_leaves_next BEFORE INSERT ON log_leaves "
        "FOR EACH ROW EXECUTE FUNCTION require_next_leaf()"
    )


def _guard_on_sqlite() -> None:
    for table, key in KEYS.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or deleted'); END"
        for change in ("update", "delete"):
            op.execute(f"CREATE TRIGGER {table}_never_{change} BEFORE {change.upper()} ON {table} {refuse}")
        # SQLite's INSERT OR REPLACE deletes the old row without a word to its triggers.
        same = " AND ".join(f"{column} = NEW.{column}" for column in key)
        op.execute(
            f"CREATE TRIGGER {table}_never_replace BEFORE INSERT ON {table} "  # noqa: S608 - from the constants above
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) {refuse}"
        )
    op.execute(
        "CREATE TRIGGER log_leaves_next BEFORE INSERT ON log_leaves "
        "WHEN NEW.position <> (SELECT coalesce(max(position) + 1, 0) FROM log_leaves) "
        "BEGIN SELECT RAISE(ABORT, 'this leaf of the log is not the next one'); END"
    )
