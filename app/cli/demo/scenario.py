"""What the demonstration does, from training to proof. Imports torch and scikit-learn."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.cli.demo.digits import Digits
from app.cli.demo.proof import Accuracy, Proof
from app.cli.demo.service import DemoService
from app.cli.errors import CommandError
from app.cli.forget import DONE, show_event
from app.cli.output import progress_line
from app.cli.train import train_checkpoint
from app.client import Client, JsonObject, ProblemError
from app.trust.certificates.bundle import CertificateError
from app.trust.certificates.verification import TrustedKeys, verify_certificate
from app.trust.signing import read_public_keys
from models.checkpoint import verify_directory
from models.families import get_family

NAME = "digits"
"""Of the data set and of the model."""
FORGOTTEN_RECORDS = 10
FORGOTTEN_CLASS = "7"
FORGOTTEN_WRITER = "writer-123"

Step = Callable[[str], None]


@dataclass(frozen=True)
class Demand:
    """One thing that shall be forgotten."""

    what: str
    target: dict[str, Any]
    """As a request's body holds it."""
    records: npt.NDArray[np.bool_]
    """Shape (n,): the records it concerns."""


@dataclass(frozen=True)
class Forgotten:
    """A demand that was met."""

    what: str
    request: str
    """The forget request's id."""
    version: int
    audit: JsonObject


@dataclass
class Report:
    """What was done and seen."""

    forgotten: list[Forgotten] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)
    certificate: list[str] = field(default_factory=list)
    """What the last request's certificate attests, in sentences."""
    expectations: dict[str, bool] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return it as JSON values."""
        return asdict(self)


def run(directory: Path, *, step: Step) -> Report:
    """Do it all in `directory`, telling of each step; nothing is left running."""
    family = get_family("classifier")
    digits = Digits.load()
    report = Report()
    with DemoService(directory) as service:
        step(
            f"Training a classifier on {len(digits)} handwritten digits of {len(set(digits.subjects))} writers."
        )
        data, trained = directory / "digits.npz", directory / "trained"
        digits.write(data)
        train_checkpoint(family, [data], {}, trained, seed=0)

        with service.connect() as client:
            step("Registering data set and model with the service.")
            dataset = client.register_dataset(NAME, family.name, [data])
            client.register_model(NAME, family.name, dataset["id"], trained)

            remaining = np.ones(len(digits), dtype=np.bool_)
            for demand in _demands(digits):
                step(f"Forgetting {demand.what}.")
                report.forgotten.append(_forget(client, demand))
                remaining &= ~demand.records

            last = report.forgotten[-1]
            newest = last.version
            step(f"Downloading version {newest} and comparing every file with its digest.")
            downloaded = directory / "downloaded"
            version = client.download(NAME, downloaded, version=newest)
            report.expectations |= {
                "the downloaded files have the version's digest": verify_directory(downloaded).digest
                == version["digest"],
                "version 1, which knew what was forgotten, is quarantined": _is_quarantined(
                    client, directory
                ),
            }
            step(f"Verifying the certificate for {last.what}, as a stranger would, with files alone.")
            certificate, keys = client.certificate(last.request), _keys(client)
            report.certificate.extend(verify_certificate(certificate, downloaded, keys).sentences())
            report.expectations["the certificate verifies, and not with a byte changed"] = not _verifies(
                certificate[:-9] + b"!" + certificate[-8:], downloaded, keys
            )

    step("Fitting a model afresh on what remains, to compare every bit.")
    proof = Proof(family, trained, downloaded, everything=digits, remaining=digits.where(remaining))
    report.expectations |= {
        "the head has changed": proof.head_has_changed(),
        "the head equals the freshly fitted one in every bit": proof.head_is_identical(),
        "so do the statistics that later forgetting starts from": proof.statistics_are_identical(),
        f"no image at all is taken for a {FORGOTTEN_CLASS} any more": not proof.predictions_of(
            FORGOTTEN_CLASS
        ),
    }
    report.accuracies.extend(proof.accuracies())
    return report


def _demands(digits: Digits) -> Iterator[Demand]:
    """Yield some records, one whole class, one person: what the three kinds of request name."""
    training = ~digits.held_out
    some = digits.ids[training][:FORGOTTEN_RECORDS]
    yield Demand(
        f"{FORGOTTEN_RECORDS} records",
        {"kind": "records", "ids": some.tolist()},
        np.isin(digits.ids, some),
    )
    yield Demand(
        f"the whole class {FORGOTTEN_CLASS}",
        {"kind": "classes", "ids": [FORGOTTEN_CLASS]},
        digits.labels == FORGOTTEN_CLASS,
    )
    yield Demand(
        f"everything by {FORGOTTEN_WRITER}",
        {"kind": "subjects", "ids": [FORGOTTEN_WRITER]},
        digits.subjects == FORGOTTEN_WRITER,
    )


def _forget(client: Client, demand: Demand) -> Forgotten:
    """Submit a demand, follow it to its end and fetch the audit.

    Raises:
        CommandError: It was not completed.
    """
    submitted = client.forget(NAME, demand.target, guarantee="exact", reference="demo")
    with progress_line() as line:
        request = client.wait(
            submitted["id"], on_event=lambda event: show_event(event, line, say_states=False)
        )
    if request["status"] != DONE:
        raise CommandError(f"Forgetting {demand.what} ended as {request['status']}: {request['reason']}")
    return Forgotten(demand.what, request["id"], request["version"], client.audit(NAME, request["version"]))


def _keys(client: Client) -> TrustedKeys:
    """Return the service's public key; whoever does not run the service asks for it by another way."""
    return TrustedKeys(dict(read_public_keys(client.public_keys()["public_key"].encode())))


def _verifies(certificate: bytes, directory: Path, keys: TrustedKeys) -> bool:
    try:
        verify_certificate(certificate, directory, keys)
    except CertificateError:
        return False
    return True


def _is_quarantined(client: Client, directory: Path) -> bool:
    """Tell whether version 1 is refused for the reason it must be refused for."""
    try:
        client.download(NAME, directory / "version-1", version=1)
    except ProblemError as error:
        return error.status == 403 and "quarantined" in error.slug  # noqa: PLR2004 - HTTP's own number
    return False
