"""`model.sig`: a version's files, signed in the OpenSSF model-signing format, version 1.0.

That is an in-toto statement in a DSSE envelope in a Sigstore bundle, with a key of the service's own: no Sigstore
service is asked. The signature by ECDSA on P-256 is what `model_signing verify key` takes. The subject's digest is
the SHA-256 of the files' digests, one after the other, in the order of their names.
"""

import hashlib
from collections.abc import Sequence

from app.trust.canonical import canonical_json
from app.trust.certificates.dsse import PAYLOAD_TYPE, envelope, pre_authentication_encoding
from app.trust.signing import Signer
from models.checkpoint import FileEntry

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SERIALIZATION = {
    "allow_symlinks": False,
    "hash_type": "sha256",
    "ignore_paths": ["model.sig"],
    "method": "files",
}


def sign_model(name: str, files: Sequence[FileEntry], signer: Signer) -> str:
    """Return the text of `model.sig`.

    Args:
        name: What the model is called in it.
        files: Every file of the directory, the manifest included.
        signer: Holds the key.
    """
    ordered = sorted(files, key=lambda entry: entry.path)
    digest = hashlib.sha256(b"".join(bytes.fromhex(entry.sha256) for entry in ordered))
    resources = [{"algorithm": "sha256", "digest": entry.sha256, "name": entry.path} for entry in ordered]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {"resources": resources, "serialization": SERIALIZATION},
        "predicateType": PREDICATE_TYPE,
        "subject": [{"digest": {"sha256": digest.hexdigest()}, "name": name}],
    }
    payload = canonical_json(statement).encode()
    signature = signer.sign_checkpoint(pre_authentication_encoding(payload, PAYLOAD_TYPE))
    # The format's hint is over the PEM text, not over the DER form as our own key ids are.
    hint = hashlib.sha256(signer.checkpoints.pem.encode()).hexdigest()
    return canonical_json(
        {
            "dsseEnvelope": envelope(payload, "", signature),
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        }
    )
