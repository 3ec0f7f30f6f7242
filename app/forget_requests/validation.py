"""What a forget request must satisfy before it is stored: everything that can be known without its worker."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from app.forget_requests.errors import TargetTooLargeError, UnknownIdsError, UnsuitableTargetError
from app.forget_requests.repository import ModelState
from app.runtime import Runtime
from app.storage import Storage
from models.architectures import describe_config
from models.checkpoint import CONFIG_NAME
from models.families import get_family
from unlearning.catalog import get_method
from unlearning.planner import AUTO, GuaranteeAsked, Plan, PlanInput, make_plan
from unlearning.targets import AnyTarget, missing_ids


def check_target(runtime: Runtime, state: ModelState, target: AnyTarget) -> None:
    """Check that the model can be asked to forget the target.

    Raises:
        UnsuitableTargetError: Its family knows no such targets.
        TargetTooLargeError: It names too many.
        UnknownIdsError: It names what neither the latest version nor the dataset's head holds.
    """
    family = get_family(state.family)
    if target.kind not in family.target_kinds:
        raise UnsuitableTargetError(state.name, family, target.kind)
    limit = runtime.settings.max_target_ids
    if target.count > limit:
        raise TargetTooLargeError(target.count, limit)
    learned = runtime.indexes.get(state.learned_location)
    missing = missing_ids(state.family, learned, target)
    if missing and state.head_location != state.learned_location:
        missing = missing_ids(state.family, learned, target, also=runtime.indexes.get(state.head_location))
    if missing:
        raise UnknownIdsError(state.name, target.kind, missing)


def settle_parameters(
    runtime: Runtime,
    state: ModelState,
    target_kind: str,
    guarantee: GuaranteeAsked,
    method: str,
    parameters: Mapping[str, Any],
) -> tuple[dict[str, Any], bool]:
    """Check by a plan that some method can serve the request.

    Returns:
        The named method's parameters, defaults filled in, and whether nothing but retraining can serve it.

    Raises:
        UnknownMethodError: The named method is not in the catalog.
        ConfigurationError: The parameters do not fit it, or were given with `auto`.
        PlanningError: No method can give what was asked.
    """
    plan = _plan(
        runtime.storage,
        state.family,
        state.version_location,
        state.records,
        target_kind,
        guarantee,
        method,
        json.dumps(parameters, sort_keys=True),
    )
    only_retraining = all(get_method(state.family, rung.method).fallback for rung in plan.rungs)
    return {} if method == AUTO else plan.rungs[0].parameters, only_retraining


def group_key(guarantee: str, method: str, parameters: Mapping[str, Any]) -> str:
    """Return the key under which requests of one model are served by one job."""
    asked = json.dumps([guarantee, method, parameters], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()


@lru_cache(maxsize=1024)
def _plan(
    storage: Storage,
    family: str,
    version_location: str,
    records: int,
    target_kind: str,
    guarantee: GuaranteeAsked,
    method: str,
    parameters: str,
) -> Plan:
    """Plan for one record of a version, whose files never change.

    How many records are to be forgotten moves costs and so the order of the rungs, never which methods fit.
    """
    return make_plan(
        PlanInput(
            family=family,
            architecture=describe_version(storage, family, version_location),
            target_kind=target_kind,
            records=records,
            forget=min(1, records),
            guarantee=guarantee,
            method=method,
            parameters=json.loads(parameters),
        )
    )


@lru_cache(maxsize=1024)
def describe_version(storage: Storage, family: str, version_location: str) -> Mapping[str, Any]:
    """Return what the family says of a version, by the checkpoint's `config.json`; its files never change.

    Raises:
        UnknownArchitectureError: The package that brought its architecture is gone.
    """
    path = storage.materialise_file(version_location, CONFIG_NAME)
    return describe_config(family, json.loads(path.read_bytes()))
