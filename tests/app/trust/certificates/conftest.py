"""A certificate made of plain values, without database or service, and its checkpoint on disk."""

import datetime as dt
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app.trust.certificates.bundle import Bundle
from app.trust.certificates.commitments import commitment_root
from app.trust.certificates.seal import certificate_entry, sign_parts
from app.trust.certificates.statement import DirectoryState, Facts, OwnPart, Retained, fill, frame
from app.trust.certificates.verification import TrustedKeys
from app.trust.log.merkle import grow, inclusion_ranges, leaf_hash, range_root
from app.trust.log.tree import Entry, leaf_payload
from app.trust.signing import Signer, SigningKeyFile, read_public_keys
from models.checkpoint import MANIFEST_NAME, FileEntry, write_manifest

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
AUDIT = {
    "method": "acu",
    "guarantee": "exact",
    "verdict": "pass",
    "summary": "All checks passed.",
    "checks": [
        {
            "name": "weight difference",
            "formula": "max |a - b|",
            "value": 0.0,
            "bound": "= 0",
            "gating": True,
            "outcome": "pass",
            "reason": "Equal in every bit.",
        }
    ],
    "seconds": 0.25,
    "unlearning_seconds": 0.5,
}


@dataclass
class Issued:
    """A certificate, what it is about, and the keys that verify it."""

    facts: Facts
    signer: Signer
    directory: Path
    leaves: int = 6
    index: int = 2

    @property
    def keys(self) -> TrustedKeys:
        return TrustedKeys(dict(read_public_keys(self.signer.certificates.pem.encode())))

    def bundle(self, **changes: object) -> Bundle:
        """The certificate in a log of some leaves, itself the one at `index`."""
        text = frame(replace(self.facts, **changes))
        own = OwnPart(
            uuid.UUID(int=7), NOW, "records", 2, 2, commitment_root(b"k" * 32, ["secret-1", "secret-2"])
        )
        [part] = sign_parts(text, [own], self.signer)
        entries = [Entry("test", {"number": number}) for number in range(self.leaves)]
        entries[self.index] = certificate_entry(self.facts.model_id, self.facts.version, part)
        payloads = [leaf_payload(index, entry, NOW) for index, entry in enumerate(entries)]
        known = {(0, place): leaf_hash(payload.encode()) for place, payload in enumerate(payloads)}
        known |= dict(grow(0, {}, list(known.values())))
        return Bundle(
            payload=fill(text, part.own),
            key_id=self.signer.certificates.id,
            signature=part.signature,
            leaf=payloads[self.index],
            index=self.index,
            size=self.leaves,
            proof=tuple(range_root(wanted, known) for wanted in inclusion_ranges(self.index, self.leaves)),
            tree_head=self.signer.sign_tree_head(self.leaves, range_root((0, self.leaves), known)),
        )


@pytest.fixture(scope="session")
def signer(tmp_path_factory) -> Signer:
    key_file = SigningKeyFile(tmp_path_factory.mktemp("keys") / "signing-key.pem", "log.example")
    key_file.create()
    return key_file.require()


@pytest.fixture(scope="module")
def issued(tmp_path_factory, signer) -> Issued:
    directory = tmp_path_factory.mktemp("version")
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer").mkdir()
    (directory / "tokenizer" / "vocabulary.json").write_text('{"a": 1}')
    (directory / "model.safetensors").write_bytes(bytes(range(40)))
    manifest = write_manifest(directory)
    files = [*manifest.files, FileEntry(MANIFEST_NAME, manifest.digest, len(manifest.to_bytes()))]
    facts = Facts(
        model_id=uuid.UUID(int=1),
        model_name="pets",
        family="classifier",
        version=2,
        digest=manifest.digest,
        files=files,
        parent=DirectoryState(1, "a" * 64),
        dataset_id=uuid.UUID(int=2),
        learned=DirectoryState(1, "b" * 64),
        retained=Retained(DirectoryState(2, "c" * 64), 10, b"r" * 32),
        method="acu",
        configuration={"gamma": 0.1},
        seed=17,
        guarantee="exact",
        asked={"guarantee": "any", "method": "auto", "parameters": {}},
        audit=AUDIT,
        acceptance=None,
        making=None,
        predecessors=[1],
        retention_days=30.0,
        started_at=NOW,
        signed_at=NOW,
    )
    return Issued(facts, signer, directory)
