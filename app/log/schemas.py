"""What the transparency log answers."""

from pydantic import BaseModel, Field


class EntryRead(BaseModel):
    """One entry."""

    index: int = Field(description="Its number, from 0.")
    leaf: str = Field(description="Canonical JSON; the tree hashes these bytes as SHA-256(0x00 || leaf).")


class EntryList(BaseModel):
    """Entries in their order."""

    items: list[EntryRead] = Field(description="At most as many as one answer holds.")
    size: int = Field(description="How many entries the log has now.")


class ProofRead(BaseModel):
    """A proof by RFC 6962."""

    hashes: list[str] = Field(description="Its hashes in base64, in the order of RFC 6962.")


class InclusionProofRead(ProofRead):
    """A proof that a tree has a leaf (RFC 6962, section 2.1.1)."""

    index: int = Field(description="The leaf's index.")
    size: int = Field(description="The tree's size.")
    leaf_hash: str = Field(description="The leaf's hash in base64.")


class ConsistencyProofRead(ProofRead):
    """A proof that a tree begins with an earlier one (RFC 6962, section 2.1.2)."""

    first: int = Field(description="The earlier tree's size.")
    second: int = Field(description="The later tree's size.")


class PublicKeyRead(BaseModel):
    """A public key of the service."""

    id: str = Field(description="SHA-256 of its DER form, in hexadecimal: `keyid` in certificates.")
    purpose: str = Field(
        description="`certificates` (Ed25519; tree heads too) or `checkpoints` (P-256, model.sig)."
    )
    public_key: str = Field(description="PEM.")
    current: bool = Field(description="Whether the service signs with it now.")


class KeysRead(BaseModel):
    """What verifies what the service signs."""

    origin: str = Field(description="The log's name.")
    vkey: str = Field(description="The key of tree heads now, as C2SP's signed-note writes it.")
    public_key: str = Field(description="The key of certificates and tree heads now, in PEM form.")
    keys: list[PublicKeyRead] = Field(description="Every key that signs or has signed something.")
