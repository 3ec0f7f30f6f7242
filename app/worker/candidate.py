"""What a job has made and nobody has published yet. Torch-free, and JSON both ways.

A candidate's files are three directories under one root: `version`, and `snapshot` and `head` where there are
such drafts. The root is the job's staging directory, or, while a person decides, a place in the storage.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

VERSION_PART = "version"
SNAPSHOT_PART = "snapshot"
HEAD_PART = "head"


class SnapshotDraft(BaseModel):
    """A snapshot that was written but has no number yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent: int
    """Number of the snapshot it was derived from."""
    digest: str
    size: int
    records: int
    subjects: int


class Candidate(BaseModel):
    """A new version of a model with the snapshots that go with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent_version: int
    """The version it was made from; published only while that is the model's latest."""
    base_snapshot: int
    """The snapshot that the new version's training records are, less `snapshot`'s removals."""
    head_snapshot: int
    """The dataset's head when the drafts were derived."""
    method: str
    configuration: dict[str, Any]
    audit: dict[str, Any] | None
    making: dict[str, Any] | None = None
    """The software that made it and what its architecture declares (`app.worker.making`), for the certificate."""
    manifest: dict[str, Any]
    digest: str
    size: int
    snapshot: SnapshotDraft | None
    """`base_snapshot` without the forgotten records; None where it holds none of them."""
    head: SnapshotDraft | None
    """The head without the forgotten records; None where it holds none, or is `base_snapshot` itself."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its directories."""
        drafts = {SNAPSHOT_PART: self.snapshot, HEAD_PART: self.head}
        return (VERSION_PART, *(part for part, draft in drafts.items() if draft is not None))

    def digest_of(self, part: str) -> str:
        """Return the digest of a directory's manifest."""
        draft = {SNAPSHOT_PART: self.snapshot, HEAD_PART: self.head}.get(part)
        return draft.digest if draft is not None else self.digest

    @property
    def serves_head(self) -> bool:
        """Whether `snapshot` is the dataset's new head too."""
        return self.snapshot is not None and self.head_snapshot == self.base_snapshot
