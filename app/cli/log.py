"""`log`: the transparency log, read over HTTP by auditors and checked in the database by operators."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.database import open_current_database
from app.cli.errors import CommandError
from app.cli.output import JsonFlag, print_json, say, show_help
from app.cli.verify import LogKeyOption, PublicKeyOption, read_keys, read_small
from app.settings import get_settings
from app.trust.certificates.verification import TrustedKeys, verify_consistency_of, verify_tree_head
from app.trust.log.check import LogCheck, check_log
from app.trust.log.notes import TreeHead
from app.trust.signing import SigningKeyFile

program = typer.Typer(
    name="log",
    help="Read and check the transparency log.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@program.command("checkpoint")
def checkpoint(*, url: UrlOption = DEFAULT_URL, api_key: KeyOption = None) -> None:
    """Print the signed tree head.

    Keep it, away from the service: later ones must be consistent with it.
    """
    with connect(url, api_key) as client:
        typer.echo(client.log_checkpoint(), nl=False)


@program.command("verify-consistency")
def verify_consistency(
    earlier: Annotated[Path, typer.Argument(help="A tree head that was kept.")],
    *,
    key: PublicKeyOption = None,
    log_key: LogKeyOption = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify that the log has only grown since a tree head was kept."""
    keys = read_keys(key, log_key)
    kept = verify_tree_head(read_small(earlier), keys)
    with connect(url, api_key) as client:
        now = verify_tree_head(client.log_checkpoint().encode(), keys)
        proof = client.log_consistency(kept.size, now.size) if kept.size <= now.size else {}
    verify_consistency_of(kept, now, proof)
    if as_json:
        print_json({"earlier": kept.size, "now": now.size, "consistent": True})
    else:
        typer.echo(
            f"The log {now.origin} has {now.size} entries and begins with the {kept.size} of the kept one."
        )


@program.command("verify")
def verify(
    *,
    tree_head: Annotated[
        list[Path] | None,
        typer.Option(help="A tree head that was kept elsewhere; repeat for several.", show_default=False),
    ] = None,
    key: PublicKeyOption = None,
    log_key: LogKeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the whole log in the database.

    Hashes every entry anew and compares entries with certificates, versions and, where given, tree heads that were
    kept. Works on the database itself, so it needs no API key. Status 1 if anything was changed.
    """
    kept = _read_heads(tree_head, key, log_key)
    with open_current_database() as database, database.read() as session:
        if database.dialect == "postgresql":
            # All queries must see one state, whoever goes on publishing.
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        check = check_log(session, kept)
    if as_json:
        print_json(_shown(check))
    else:
        for fault in check.faults:
            say(fault)
    if check.faults:
        raise CommandError(f"The log was tampered with: {len(check.faults)} faults.")
    if not as_json:
        typer.echo(
            f"All {check.size} entries, {check.certificates} certificates and every version agree; the root is "
            f"{check.root.hex()}."
        )


def _read_heads(
    paths: list[Path] | None, key: list[Path] | None, log_key: list[str] | None
) -> list[TreeHead]:
    if not paths:
        return []
    keys = read_keys(key, log_key) if key or log_key else _own_keys()
    return [verify_tree_head(read_small(path), keys) for path in paths]


def _own_keys() -> TrustedKeys:
    """Take the key of the service itself, where none is given."""
    settings = get_settings()
    signer = SigningKeyFile(settings.signing_key_file, settings.log_origin).require()
    return TrustedKeys({}, [signer.verifier_key])


def _shown(check: LogCheck) -> dict[str, Any]:
    return {
        "size": check.size,
        "root": check.root.hex(),
        "certificates": check.certificates,
        "faults": check.faults,
    }
