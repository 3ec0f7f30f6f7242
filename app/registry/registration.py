"""Registering models and versions: check outside any transaction, store, then record in a short one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from app.call import Call
from app.datasets.suppression import forgotten_in
from app.deposits import deposited
from app.intake import Parcel
from app.registry import repository, service
from app.registry.errors import CheckpointMismatchError, SnapshotForgottenError
from app.registry.schemas import ModelCreate, VersionCreate
from app.tables import Dataset, Model
from app.trust.scopes import Scope
from models.architectures import describe_config
from models.checkpoint import CONFIG_NAME, Manifest, check_checkpoint, read_json_object
from models.families import get_family


def create_model(call: Call, parcel: Parcel[ModelCreate]) -> Response:
    """Check the files as a new model's version 1 and register both.

    Raises:
        ServiceError: The name is taken, or the dataset does not fit.
        CheckpointError: The checkpoint is refused.
    """
    wanted = parcel.metadata
    with call.read(Scope.MODELS_WRITE) as work:
        if (first := call.first_answer(work)) is not None:
            return first
        get_family(wanted.family)
        learned = service.prepare_model(work, wanted)
    location = repository.new_version_location(wanted.name, 1)
    try:
        with _stored(call, parcel.directory, wanted.family, learned, location) as stored:
            return call.post(
                Scope.MODELS_WRITE, lambda work: service.register_model(work, wanted, learned, stored)
            )
    except IntegrityError:
        with call.read(Scope.MODELS_WRITE) as work:  # somebody else took the name since we looked
            service.refuse_taken_name(work, wanted.name)
        raise


def create_version(call: Call, parcel: Parcel[VersionCreate], name: str) -> Response:
    """Check the files as a new version of a model and register it.

    Raises:
        ServiceError: A job is at work, or the checkpoint is not one of this model.
        CheckpointError: The checkpoint is refused.
    """
    wanted = parcel.metadata.snapshot
    with call.read(Scope.MODELS_WRITE) as work:
        if (first := call.first_answer(work)) is not None:
            return first
        model, learned = service.prepare_version(work, name, wanted)
        unlearned = repository.has_unlearned(work.session, model)
    if unlearned:
        _refuse_forgotten(call, learned)
    location = repository.new_version_location(name, model.next_version)
    with _stored(call, parcel.directory, model.family, learned, location, model) as stored:
        return call.post(
            Scope.MODELS_WRITE,
            lambda work: service.register_version(work, model, learned, stored, head=wanted is None),
        )


def _refuse_forgotten(call: Call, learned: service.Learned) -> None:
    """Keep a model that has forgotten records from learning them again by way of an old snapshot."""
    if learned.snapshot.number == learned.dataset.head_snapshot:
        return  # a head never holds forgotten records
    fetch = partial(call.runtime.storage.materialise_file, learned.snapshot.location)
    with call.read(Scope.MODELS_WRITE) as work:
        forgotten = list(forgotten_in(work.session, learned.dataset, fetch))
    if forgotten:
        raise SnapshotForgottenError(learned.dataset, learned.snapshot, forgotten)


@contextmanager
def _stored(
    call: Call,
    directory: Path,
    family: str,
    learned: service.Learned,
    location: str,
    model: Model | None = None,
) -> Iterator[service.StoredVersion]:
    architecture, manifest = check_delivery(directory, family, learned.dataset, model)
    with deposited(call.runtime, directory, location, repository.version_recorded):
        yield service.StoredVersion(architecture, location, manifest)


def check_delivery(
    directory: Path, family: str, dataset: Dataset, model: Model | None = None
) -> tuple[str, Manifest]:
    """Check a checkpoint from outside, and complete it by its manifest; return its architecture and the manifest.

    Raises:
        CheckpointError: It is malformed.
        CheckpointMismatchError: It is not of this model's architecture, or learned from other data than the dataset's.
    """
    manifest = check_checkpoint(directory, get_family(family).checkpoint_suffixes)
    config = read_json_object(directory / CONFIG_NAME)
    architecture = str(describe_config(family, config)["architecture"])
    if model is not None and architecture != model.architecture:
        raise CheckpointMismatchError(
            f"The checkpoint's architecture is {architecture!r}, the model's {model.architecture!r}."
        )
    _refuse_other_data(config, dataset.data_schema)
    return architecture, manifest


def _refuse_other_data(config: Mapping[str, Any], data_schema: Mapping[str, Any]) -> None:
    """Compare what checkpoint and dataset both say of the data."""
    for of_model, of_data, what in (
        ("classes", "classes", "classes"),
        ("classes", "node_classes", "classes"),
        ("input_width", "width", "feature width"),
        ("width", "width", "feature width"),
    ):
        if of_model in config and of_data in data_schema and config[of_model] != data_schema[of_data]:
            if of_data == "node_classes" and not config[of_model]:
                continue  # a network that predicts links has no classes, whatever its graph has
            raise CheckpointMismatchError(
                f"The checkpoint's {what} are {_shortened(config[of_model])}, "
                f"the dataset's {_shortened(data_schema[of_data])}."
            )


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - enough to see which is meant
