"""Verifying a certificate on a machine that has neither the service nor its database: files in, sentences out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.trust.canonical import parse_canonical
from app.trust.certificates.bundle import Bundle, CertificateError, check_leaf
from app.trust.certificates.dsse import pre_authentication_encoding
from app.trust.certificates.statement import ATTESTS, PREDICATE_TYPE, STATEMENT_TYPE
from app.trust.log.merkle import ProofError, leaf_hash, verify_consistency, verify_inclusion
from app.trust.log.notes import NoteError, TreeHead, VerifierKey, decode_base64, verify_note
from models.checkpoint import check_file_name, list_files
from models.errors import CheckpointError


@dataclass(frozen=True)
class TrustedKeys:
    """What a verifier was given beforehand, by a way that he trusts."""

    certificates: Mapping[str, Ed25519PublicKey]
    """Key id -> key."""
    logs: Sequence[VerifierKey] = ()
    """Verifier keys of the log; where there are none, the certificates' keys verify tree heads too."""


@dataclass(frozen=True)
class Verified:
    """A certificate that holds."""

    statement: Mapping[str, Any]
    tree_head: TreeHead
    index: int
    files: int

    @property
    def predicate(self) -> Mapping[str, Any]:
        """What the statement says of the erasure."""
        predicate: Mapping[str, Any] = self.statement["predicate"]
        return predicate

    def sentences(self) -> list[str]:
        """Say in words what the certificate attests, and what it does not."""
        said, request, method = self.predicate, self.predicate["request"], self.predicate["method"]
        model, target, data = said["model"], request["target"], said["data"]
        predecessors = ", ".join(map(str, said["predecessors"]["versions"])) or "none"
        return [
            (
                f"The certificate is signed, its {self.files} files are unchanged, and it is entry {self.index} of the log "
                f"{self.tree_head.origin}, which had {self.tree_head.size} entries."
            ),
            (
                f"Forget request {request['id']} named {target['count']} {target['kind']}, which came to "
                f"{request['forgotten']['records']} records."
            ),
            (
                f"Version {model['version']} of the model {model['name']!r} was made from version "
                f"{said['parent']['version']} without them, by the method {method['name']} with the guarantee "
                f"{method['guarantee']!r}; {data['retained']['records']} records remain in its data."
            ),
            f"Verdict: {said['verdict']['words']}",
            (
                f"Earlier versions in use ({predecessors}) were quarantined at publication, to be destroyed "
                f"{said['predecessors']['destroyed_after_days']:g} days later; this certificate does not show that they "
                "were: the log's entries do."
            ),
            ATTESTS,
        ]


def verify_certificate(content: bytes, directory: Path, keys: TrustedKeys) -> Verified:
    """Verify a downloaded certificate against a downloaded checkpoint.

    Raises:
        CertificateError: Anything is not as it must be; the message is the first fault in a sentence.
    """
    bundle = Bundle.parse(content)
    _verify_signature(bundle, keys)
    statement = _statement(bundle.payload)
    check_leaf(bundle, statement["predicate"]["request"]["id"])
    tree_head = _verify_log(bundle, keys)
    files = _verify_files(statement, directory)
    return Verified(statement, tree_head, bundle.index, files)


def verify_tree_head(note: bytes, keys: TrustedKeys, *, alone: bool = False) -> TreeHead:
    """Return a tree head once its signature was verified.

    Raises:
        CertificateError: It is malformed, or not signed by a key that counts.
    """
    try:
        text = verify_note(note, keys.logs or _log_keys(note, keys), alone=alone)
        return TreeHead.parse(text)
    except NoteError as error:
        raise CertificateError(f"The tree head does not hold. {error}") from None


def _log_keys(note: bytes, keys: TrustedKeys) -> list[VerifierKey]:
    """Let the certificates' keys stand for a log of any name: it is their signature that counts."""
    origin = note.partition(b"\n")[0].decode("utf-8", errors="replace")
    return [VerifierKey(origin, key.public_bytes_raw()) for key in keys.certificates.values()]


def _verify_signature(bundle: Bundle, keys: TrustedKeys) -> None:
    key = keys.certificates.get(bundle.key_id)
    if key is None:
        raise CertificateError("The certificate is not signed by the key that was given.")
    try:
        key.verify(bundle.signature, pre_authentication_encoding(bundle.payload))
    except InvalidSignature:
        raise CertificateError("The signature of the certificate is not good: it was changed.") from None


def _verify_log(bundle: Bundle, keys: TrustedKeys) -> TreeHead:
    tree_head = verify_tree_head(bundle.tree_head.encode("utf-8", errors="replace"), keys, alone=True)
    if tree_head.extensions or tree_head.size != bundle.size:
        raise CertificateError("The inclusion proof is for a tree of another size than the tree head's.")
    try:
        verify_inclusion(
            leaf_hash(bundle.leaf.encode()), bundle.index, bundle.size, bundle.proof, tree_head.root
        )
    except ProofError as error:
        raise CertificateError(str(error)) from None
    return tree_head


def _statement(payload: bytes) -> dict[str, Any]:
    """Read what was signed; by a key that is trusted, so only what is used here is checked."""
    try:
        statement = parse_canonical(payload)
    except ValueError as error:
        raise CertificateError(f"The statement cannot be read: {error}.") from None
    if statement.get("_type") != STATEMENT_TYPE or statement.get("predicateType") != PREDICATE_TYPE:
        raise CertificateError("The statement is not about unlearning: another type or another version.")
    try:
        Verified(statement, TreeHead("", 0, b""), 0, 0).sentences()
    except (KeyError, TypeError, ValueError):
        raise CertificateError("The statement lacks what a certificate must say.") from None
    return statement


def _verify_files(statement: Mapping[str, Any], directory: Path) -> int:
    expected = _subjects(statement)
    if not directory.is_dir():
        raise CertificateError(f"{str(directory)!r} is not a directory.")
    try:
        present = set(list_files(directory))
    except CheckpointError as error:
        raise CertificateError(str(error)) from None
    _refuse("missing", expected.keys() - present)
    _refuse("not part of the certified version", present - expected.keys())
    changed = [name for name in sorted(expected) if _sha256(directory / name) != expected[name]]
    _refuse("not what was certified: changed", changed)
    return len(expected)


def _subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    try:
        subjects = {check_file_name(item["name"]): item["digest"]["sha256"] for item in statement["subject"]}
    except (KeyError, TypeError, AttributeError, CheckpointError):
        raise CertificateError("The statement names its files in a way that cannot be read.") from None
    if not subjects:
        raise CertificateError("The statement names no file.")
    return subjects


def _refuse(problem: str, names: Sequence[str] | set[str]) -> None:
    if names:
        shown = ", ".join(map(repr, sorted(names)[:10]))
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""  # noqa: PLR2004 - as many as are shown
        raise CertificateError(f"Files of the checkpoint are {problem}: {shown}{more}.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_consistency_of(first: TreeHead, second: TreeHead, proof: Mapping[str, Any]) -> None:
    """Check that a later tree head's log begins with an earlier one's.

    Args:
        first: The earlier tree head.
        second: The later one.
        proof: What `GET /v1/log/proofs/consistency` answers; its hashes count, and may be none for equal sizes.

    Raises:
        CertificateError: It does not, or the proof is malformed.
    """
    if first.origin != second.origin:
        raise CertificateError(f"The tree heads are of two logs, {first.origin!r} and {second.origin!r}.")
    if first.size > second.size:
        raise CertificateError(
            "The log has fewer entries than the kept tree head says: history was rewritten."
        )
    hashes = proof.get("hashes", [])
    if not isinstance(hashes, list) or not all(isinstance(value, str) for value in hashes):
        raise CertificateError("The consistency proof must have hashes, a list of texts.")
    try:
        decoded = [decode_base64(value, "a hash of the proof") for value in hashes]
        verify_consistency(first.size, second.size, decoded, first.root, second.root)
    except (NoteError, ProofError) as error:
        raise CertificateError(str(error)) from None
