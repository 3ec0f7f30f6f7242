"""What the transparency log says of model versions."""

import uuid

from app.trust.log.tree import Entry

VERSION_LEAF = "version"


def version_entry(model_id: uuid.UUID, number: int, state: str, digest: str) -> Entry:
    """Record that a version has come to a state.

    Args:
        model_id: The model's id; its name may say more than a log should.
        number: The version's.
        state: `published`, `quarantined` or `destroyed`.
        digest: SHA-256 of the version's manifest, in hexadecimal.
    """
    body = {"manifest_sha256": digest, "model": str(model_id), "state": state, "version": number}
    return Entry(VERSION_LEAF, body)
