"""Audit policies, trained references, audits without unlearning, and the jobs that serve them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ACTIVE = "state IN ('running', 'cancelling')"
CHANGING = f"{ACTIVE} AND kind IN ('unlearn', 'update')"
QUEUED = "state = 'queued'"
QUEUED_UPDATE = f"{QUEUED} AND kind = 'update'"
OPEN_REFERENCE_JOB = "state IN ('queued', 'running', 'cancelling') AND kind = 'reference'"
EXISTS = "destroyed_at IS NULL"

KINDS_BEFORE = ("unlearn", "update")
KINDS_AFTER = (*KINDS_BEFORE, "audit", "reference")


def upgrade() -> None:
    _create_policy_changes()
    _change_kinds(KINDS_AFTER)
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.add_column(sa.Column("policy", _json(), nullable=True))
        batch_op.add_column(sa.Column("asked", _json(), nullable=True))
    _index_jobs(CHANGING, QUEUED_UPDATE)
    _index("uq_jobs_reference_model", "jobs", ["model_id"], unique=True, where=OPEN_REFERENCE_JOB)
    op.create_index("ix_jobs_state_created_at", "jobs", ["state", "created_at"])
    _create_trained_references()
    _create_audits()


def downgrade() -> None:
    op.drop_table("audits")
    op.drop_table("trained_references")
    op.execute(
        "DELETE FROM events WHERE job_id IN (SELECT id FROM jobs WHERE kind IN ('audit', 'reference'))"
    )
    op.execute("DELETE FROM jobs WHERE kind IN ('audit', 'reference')")
    op.drop_index("ix_jobs_state_created_at", "jobs")
    op.drop_index("uq_jobs_reference_model", "jobs")
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_column("asked")
        batch_op.drop_column("policy")
    _change_kinds(KINDS_BEFORE)
    _index_jobs(ACTIVE, QUEUED)
    op.drop_table("policy_changes")


def _json() -> sa.JSON:
    return sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _index(name: str, table: str, columns: list[str], *, unique: bool, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


def _index_jobs(active: str, queued: str) -> None:
    for name, where in (("uq_jobs_active_model", active), ("uq_jobs_queued_model", queued)):
        op.drop_index(name, "jobs")
        _index(name, "jobs", ["model_id"], unique=True, where=where)


def _change_kinds(to: tuple[str, ...]) -> None:
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_constraint(op.f("ck_jobs_kind"), type_="check")
        batch_op.create_check_constraint(op.f("ck_jobs_kind"), sa.column("kind").in_(to))


def _create_policy_changes() -> None:
    op.create_table(
        "policy_changes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("family", sa.String(length=32), nullable=True),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column("fields", _json(), nullable=True),
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(family IS NULL) <> (model_id IS NULL)", name=op.f("ck_policy_changes_one_subject")
        ),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_policy_changes_api_key_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_policy_changes_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_changes")),
    )
    op.create_index("ix_policy_changes_family_id", "policy_changes", ["family", "id"])
    op.create_index("ix_policy_changes_model_id_id", "policy_changes", ["model_id", "id"])


def _create_trained_references() -> None:
    purpose = sa.Enum(
        "retrained", "shadow", name="purpose", native_enum=False, create_constraint=True, length=32
    )
    op.create_table(
        "trained_references",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("purpose", purpose, nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("snapshot", sa.Integer(), nullable=False),
        sa.Column("left_out", sa.LargeBinary(length=32), nullable=True),
        sa.Column("data_digest", sa.String(length=64), nullable=False),
        sa.Column("recipe_digest", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("location", sa.String(length=512), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id", "snapshot"],
            ["snapshots.dataset_id", "snapshots.number"],
            name="fk_trained_references_snapshot",
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_trained_references_job_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_trained_references_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trained_references")),
    )
    op.create_index("ix_trained_references_dataset_id", "trained_references", ["dataset_id", "created_at"])
    op.create_index(op.f("ix_trained_references_job_id"), "trained_references", ["job_id"])
    op.create_index(op.f("ix_trained_references_model_id"), "trained_references", ["model_id"])
    _index(
        "uq_trained_references_key",
        "trained_references",
        ["data_digest", "recipe_digest", "seed"],
        unique=True,
        where=EXISTS,
    )


def _create_audits() -> None:
    op.create_table(
        "audits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("parent_version", sa.Integer(), nullable=False),
        sa.Column("candidate_version", sa.Integer(), nullable=True),
        sa.Column("location", sa.String(length=512), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("target", _json(), nullable=True),
        sa.Column("target_kind", sa.String(length=32), nullable=False),
        sa.Column("target_count", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("result", _json(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(candidate_version IS NULL) <> (digest IS NULL)", name=op.f("ck_audits_one_candidate")
        ),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_audits_api_key_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_audits_job_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_audits_model_id")),
        sa.ForeignKeyConstraint(
            ["model_id", "parent_version"],
            ["versions.model_id", "versions.number"],
            name="fk_audits_parent",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audits")),
        sa.UniqueConstraint("job_id", name=op.f("uq_audits_job_id")),
    )
    op.create_index("ix_audits_created_at_id", "audits", ["created_at", "id"])
    op.create_index(op.f("ix_audits_model_id"), "audits", ["model_id"])
