"""`certificate` and `verify`: fetching a certificate, and verifying it on a machine without the service."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.errors import CommandError
from app.cli.output import JsonFlag, one_line, print_json
from app.trust.certificates.bundle import MAX_BUNDLE_BYTES, CertificateError
from app.trust.certificates.verification import (
    TrustedKeys,
    Verified,
    verify_certificate,
    verify_consistency_of,
    verify_tree_head,
)
from app.trust.log.notes import MAX_NOTE_BYTES, NoteError, VerifierKey
from app.trust.signing import MAX_PEM_BYTES, PublicKeyError, read_public_keys

PublicKeyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        help="PEM file of the service's public key, got by a way you trust; repeat for several.",
        show_default=False,
    ),
]
LogKeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log-key",
        help="Verifier key (NAME+ID+KEY) of the log, where tree heads are signed by another key.",
        show_default=False,
    ),
]


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("certificate")(certificate)
    program.command("verify")(verify)


def certificate(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="The forget request's id.")],
    file: Annotated[
        Path | None, typer.Argument(help="Where to put it.  [default: REQUEST.json]", show_default=False)
    ] = None,
    *,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Download the certificate of a completed forget request."""
    with connect(url, api_key) as client:
        content = client.certificate(request_id)
    target = file or Path(f"{request_id}.json")
    target.write_bytes(content)
    if as_json:
        print_json({"request": request_id, "file": str(target)})
    else:
        typer.echo(f"The certificate is in {target}; 'expunge verify' verifies it offline.")


def verify(
    certificate_file: Annotated[
        Path, typer.Argument(metavar="CERTIFICATE", help="The certificate, as it was downloaded.")
    ],
    *,
    checkpoint: Annotated[
        Path, typer.Option(help="Directory of the downloaded version.", show_default=False)
    ],
    key: PublicKeyOption = None,
    log_key: LogKeyOption = None,
    tree_head: Annotated[
        Path | None,
        typer.Option(help="A tree head that was kept; the certificate's must be consistent with it."),
    ] = None,
    consistency: Annotated[
        Path | None,
        typer.Option(help="The proof of that, as `GET /v1/log/proofs/consistency` answers it."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify a certificate offline.

    Needs neither the service nor its database: it checks the signature, every file of the version, and the proof
    that the transparency log has the certificate, and says what all that attests and what it does not. Status 1
    if anything was changed.
    """
    keys = read_keys(key, log_key)
    if not keys.certificates:
        raise CommandError("Name the service's public key with --key.")
    verified = verify_certificate(_read(certificate_file, MAX_BUNDLE_BYTES), checkpoint, keys)
    if tree_head is not None:
        kept = verify_tree_head(read_small(tree_head), keys)
        first, second = sorted((kept, verified.tree_head), key=lambda head: head.size)
        verify_consistency_of(first, second, _read_proof(consistency))
    _print(verified, as_json=as_json)


def read_keys(paths: list[Path] | None, log_keys: list[str] | None) -> TrustedKeys:
    """Read what a verifier trusts.

    Raises:
        CommandError: A key cannot be used, or there is none.
    """
    if not paths and not log_keys:
        raise CommandError("Name the service's public key with --key.")
    try:
        keys = {
            key_id: key
            for path in paths or ()
            for key_id, key in read_public_keys(_read(path, MAX_PEM_BYTES))
        }
        return TrustedKeys(keys, [VerifierKey.parse(text) for text in log_keys or ()])
    except (PublicKeyError, NoteError) as error:
        raise CommandError(str(error)) from None


def read_small(path: Path) -> bytes:
    """Read a tree head's file.

    Raises:
        CommandError: It is too long to be one.
    """
    return _read(path, MAX_NOTE_BYTES)


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise CommandError(f"{path} is longer than {limit} bytes.")
    return content


def _read_proof(path: Path | None) -> dict[str, Any]:
    """Read the proof's file; there need be none where both trees have one size."""
    if path is None:
        return {}
    try:
        proof = json.loads(_read(path, MAX_NOTE_BYTES))
    except (ValueError, RecursionError):
        proof = None
    if not isinstance(proof, dict):
        raise CertificateError("The consistency proof is not a JSON object.")
    return proof


def _print(verified: Verified, *, as_json: bool) -> None:
    if as_json:
        tree_head = verified.tree_head
        print_json(
            {
                "verified": True,
                "index": verified.index,
                "tree_head": {
                    "origin": tree_head.origin,
                    "size": tree_head.size,
                    "root": tree_head.root.hex(),
                },
                "says": verified.sentences(),
                "statement": verified.statement,
            }
        )
    else:
        for sentence in verified.sentences():
            typer.echo(one_line(sentence))
