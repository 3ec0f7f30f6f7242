"""Signed notes and tree heads in their text forms: C2SP's `signed-note` and `tlog-checkpoint`.

A note is text that ends in a newline, an empty line, and lines `— NAME BASE64(key id || signature)`. A tree head is
a note whose text begins with the log's origin, its size and its root. Signatures are Ed25519, type byte 0x01.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.trust.log.merkle import HASH_BYTES

ED25519 = 0x01
KEY_ID_BYTES = 4
SIGNATURE_BYTES = 64
MAX_NOTE_BYTES = 100_000
MAX_SIGNATURES = 64

_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]{1,255}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_SIGNATURE_LINE = re.compile(r"\u2014 (?P<name>\S+) (?P<blob>[A-Za-z0-9+/]+={0,2})")


class NoteError(Exception):
    """A note is malformed, or not signed by a key that counts; the message is a sentence."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key with the name that its signature lines carry."""

    name: str
    public_key: bytes
    """32 bytes, by RFC 8032."""

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || newline || type || public key), its first four bytes."""
        hashed = hashlib.sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public_key)
        return hashed.digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """Return the vkey: name, key id in hexadecimal, type and key in base64."""
        encoded = base64.b64encode(bytes([ED25519]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a vkey.

        Raises:
            NoteError: It is malformed, or not an Ed25519 key.
        """
        parts = text.strip().split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004 - the three parts of a vkey
            raise NoteError("A verifier key has the form NAME+KEYID+KEY.")
        name, key_id, encoded = parts
        material = decode_base64(encoded, "the verifier key")
        if not _NAME.fullmatch(name) or len(material) != 1 + 32 or material[0] != ED25519:
            raise NoteError("The verifier key is not an Ed25519 key of a named log.")
        key = cls(name, material[1:])
        if key.key_id.hex() != key_id:
            raise NoteError("The verifier key's id does not belong to its name and key.")
        return key


@dataclass(frozen=True)
class TreeHead:
    """A state of a log."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the text that is signed."""
        root = base64.b64encode(self.root).decode()
        return "\n".join([self.origin, str(self.size), root, *self.extensions]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a note's text as a tree head.

        Raises:
            NoteError: It is none.
        """
        lines = text.removesuffix("\n").split("\n")
        if len(lines) < 3 or not all(lines):  # noqa: PLR2004 - origin, size, root
            raise NoteError("A tree head has at least three lines: origin, size and root; none is empty.")
        origin, size, encoded, *extensions = lines
        if not _SIZE.fullmatch(size):
            raise NoteError("The second line of a tree head must be the log's size.")
        root = decode_base64(encoded, "the tree head's root")
        if len(root) != HASH_BYTES:
            raise NoteError(f"The root of a tree head must have {HASH_BYTES} bytes.")
        return cls(origin, int(size), root, tuple(extensions))


@dataclass(frozen=True)
class NoteSignature:
    """One signature line."""

    name: str
    key_id: bytes
    signature: bytes


def check_key_name(name: str) -> str:
    """Return a log's name if signature lines can carry it.

    Raises:
        ValueError: It is empty, too long, or has spaces, plus signs or control characters.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("use 1 to 255 characters without spaces and plus signs, such as example.com/log")
    return name


def sign_note(text: str, key: VerifierKey, sign: Callable[[bytes], bytes]) -> str:
    """Return a text, which ends in a newline, as a note with one signature."""
    blob = base64.b64encode(key.key_id + sign(text.encode())).decode()
    return f"{text}\n\u2014 {key.name} {blob}\n"


def parse_note(note: bytes) -> tuple[str, list[NoteSignature]]:
    """Take a note apart without verifying it.

    Raises:
        NoteError: It is malformed.
    """
    if len(note) > MAX_NOTE_BYTES:
        raise NoteError(f"A note may have no more than {MAX_NOTE_BYTES} bytes.")
    try:
        content = note.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("A note must be UTF-8 text.") from None
    if any(character < " " and character != "\n" for character in content):
        raise NoteError("A note must not hold control characters.")
    text, separator, signatures = content.rpartition("\n\n")
    lines = signatures.removesuffix("\n").split("\n")
    if not separator or not signatures.endswith("\n") or len(lines) > MAX_SIGNATURES:
        raise NoteError("A note is a text, an empty line and signature lines, each ended by a newline.")
    return text + "\n", [_signature(line) for line in lines]


def verify_note(note: bytes, keys: Iterable[VerifierKey], *, alone: bool = False) -> str:
    """Return a note's text once a signature by one of the keys was verified.

    Args:
        note: The note.
        keys: The keys that count; lines of others are ignored, as the format demands.
        alone: Refuse a note that has any other signature line, so that no byte of it is without a check.

    Raises:
        NoteError: It is malformed, or no such signature is good, or one is bad.
    """
    text, signatures = parse_note(note)
    known = {(key.name, key.key_id): key for key in keys}
    verified = 0
    for line in signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public_key).verify(line.signature, text.encode())
        except InvalidSignature:
            raise NoteError(f"The signature by {key.name} is not good.") from None
        verified += 1
    if not verified:
        raise NoteError("The note is not signed by the key that was given.")
    if alone and verified < len(signatures):
        raise NoteError("The note has signature lines by unknown keys.")
    return text


def decode_base64(text: str, what: str) -> bytes:
    """Decode base64 in its one canonical form, so that equal bytes have equal texts.

    Raises:
        NoteError: It is not base64, or has another form.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{what[0].upper()}{what[1:]} is not base64.") from None
    if base64.b64encode(decoded).decode() != text:
        raise NoteError(f"{what[0].upper()}{what[1:]} is not base64 in its canonical form.")
    return decoded


def _signature(line: str) -> NoteSignature:
    match = _SIGNATURE_LINE.fullmatch(line)
    if match is None or not _NAME.fullmatch(match["name"]):
        raise NoteError("A signature line of a note has the form '\u2014 NAME BASE64'.")
    blob = decode_base64(match["blob"], "a signature")
    if len(blob) <= KEY_ID_BYTES:
        raise NoteError("A signature of a note is too short.")
    return NoteSignature(match["name"], blob[:KEY_ID_BYTES], blob[KEY_ID_BYTES:])
