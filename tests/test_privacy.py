"""docs/privacy.md names every place where personal data could be."""

import re
from pathlib import Path

from sqlalchemy import JSON, LargeBinary, String, Table
from sqlalchemy import Enum as EnumType

from app.backup.personal import SEALED_COLUMNS
from app.retention.locations import ROOTS
from app.tables import Base

PAGE = (Path(__file__).parents[1] / "docs" / "privacy.md").read_text(encoding="utf-8")
DIGESTS = re.compile(r"(^|_)(digest|hash|signature|commitment)$")
"""Names of columns whose value is computed from something else by a function that hides it."""


def described() -> dict[str, set[str]]:
    """Return the columns that the page names, by table."""
    rows = PAGE.partition("## Tables")[2].partition("## Files")[0]
    found: dict[str, set[str]] = {}
    tables: list[str] = []
    for line in rows.splitlines():
        if not line.startswith("| "):
            continue
        first, second = line.split("|")[1:3]
        tables = re.findall(r"`([a-z_]+)`", first) or tables
        for table in tables:
            found.setdefault(table, set()).update(re.findall(r"`([a-z_]+)`", second))
    return found


def may_hold_words(table: Table) -> set[str]:
    """Return the columns that text, JSON or bytes from outside could get into."""
    return {
        column.name
        for column in table.columns
        if isinstance(column.type, String | JSON | LargeBinary)
        and not isinstance(column.type, EnumType)
        and not DIGESTS.search(column.name)
        and not column.foreign_keys
        and not column.primary_key
    }


def test_every_table_and_every_column_of_words_is_described():
    page = described()
    assert page.keys() == Base.metadata.tables.keys()
    missing = {
        f"{name}.{column}"
        for name, table in Base.metadata.tables.items()
        for column in may_hold_words(table) - page[name]
    }
    assert not missing


def test_the_page_names_no_column_that_is_not_there():
    shared = {
        "certificates",
        "certificate_frames",
        "model_signatures",
        "signing_keys",
        "log_leaves",
        "log_subtrees",
    }
    for name, columns in described().items():
        known = (
            set().union(*(Base.metadata.tables[table].columns.keys() for table in shared))
            if name in shared
            else set(Base.metadata.tables[name].columns.keys())
        )
        if name in {"sweeps", "swept_locations"}:
            known = {"kind", "location"}
        assert columns <= known, name


def test_what_backups_seal_is_what_the_page_calls_ids():
    assert SEALED_COLUMNS.keys() == {"forget_requests", "audits", "jobs"}
    named = {table: set(columns) for table, columns in SEALED_COLUMNS.items()}
    assert named == {"forget_requests": {"target", "commitment_key"}, "audits": {"target"}, "jobs": {"asked"}}


def test_every_root_of_the_storage_is_described():
    assert all(f"`{root}/`" in PAGE for root in ROOTS)
