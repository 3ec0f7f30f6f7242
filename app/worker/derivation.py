"""Deriving snapshots without forgotten records. Torch-free: jobs, publication and reviews all do it."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from app.worker.candidate import SnapshotDraft
from models.checkpoint import read_manifest
from models.families import get_family
from models.id_index import IdIndex
from unlearning.targets import TARGET, resolve_target

INDEX_NAME = "index.sqlite"


def derive_without(
    family: str, base: Path, parent: int, record_ids: Collection[str], out: Path
) -> SnapshotDraft | None:
    """Write snapshot `base`, number `parent`, less some records into `out`; None where it holds none of them.

    Raises:
        DatasetError: The snapshot is damaged.
    """
    known = get_family(family)
    with IdIndex.open(base / INDEX_NAME) as index:
        if len(known.targets().absent(index, record_ids)) == len(record_ids):
            return None
    out.mkdir()
    summary = known.snapshots().without(base, record_ids, out)
    manifest = read_manifest(out)
    return SnapshotDraft(
        parent=parent,
        digest=manifest.digest,
        size=manifest.size,
        records=summary.records,
        subjects=summary.subjects,
    )


def records_of_targets(family: str, learned: Path, head: Path, targets: Iterable[dict[str, Any]]) -> set[str]:
    """Return every record of either snapshot that the targets are about.

    Raises:
        TargetError: A target names something that neither snapshot has.
    """
    records: set[str] = set()
    with IdIndex.open(learned / INDEX_NAME) as learned_index, IdIndex.open(head / INDEX_NAME) as head_index:
        for value in targets:
            target = TARGET.validate_python(value)
            records.update(resolve_target(family, learned_index, target, also=head_index).record_ids)
            records.update(resolve_target(family, head_index, target, also=learned_index).record_ids)
    return records
