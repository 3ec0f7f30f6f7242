"""docs/security.md names tests; each of them exists, and every threat has at least one."""

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", DOCUMENT)))


def test_every_test_that_is_named_exists():
    written = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        written[path.name] |= set(
            re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
        )
    missing = [f"{file}::{name}" for file, name in NAMED if name not in written[file]]
    assert len(NAMED) > 40
    assert missing == []


def test_every_threat_names_a_test():
    rows = [
        line
        for line in DOCUMENT.splitlines()
        if line.startswith("| ") and not line.startswith(("| who ", "| ---"))
    ]
    assert len(rows) >= 15
    assert [row.split("|")[1].strip() for row in rows if "::test_" not in row] == []
