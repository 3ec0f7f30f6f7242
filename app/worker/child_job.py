"""The work of a job, from stored parent to staged candidate. Runs in the job's own process; imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from app.storage import Storage
from app.tables.job import JobKind
from app.worker.candidate import HEAD_PART, SNAPSHOT_PART, VERSION_PART, Candidate
from app.worker.child_references import StoredReferences
from app.worker.derivation import INDEX_NAME, derive_without
from app.worker.making import describe_making
from app.worker.task import (
    FailureKind,
    Finished,
    JobTask,
    ReferenceDamaged,
    ReferenceStaged,
    RequestTarget,
    Stored,
    Workplace,
)
from models.checkpoint import read_manifest, verify_directory
from models.contracts import FamilyRuntime, ForgetSet, Progress
from models.errors import CheckpointError, DatasetError
from models.families import get_family
from models.id_index import IdIndex
from unlearning.audits.ahead import train_ahead
from unlearning.audits.independent import judge_candidate
from unlearning.audits.policy import AuditPolicy
from unlearning.errors import MissingReferenceError, PlanningError
from unlearning.pipeline import PipelineResult, RungResult, run_plan, run_update
from unlearning.planner import Plan, PlanInput, make_plan
from unlearning.targets import TARGET, missing_ids, resolve_target


class JobFailedError(Exception):
    """The job cannot go on, for a reason that is known."""

    def __init__(
        self,
        kind: FailureKind,
        reason: str,
        *,
        bad_targets: dict[str, str] | None = None,
        rungs: tuple[dict[str, Any], ...] = (),
        plan: dict[str, Any] | None = None,
        skipped: tuple[dict[str, Any], ...] = (),
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.bad_targets = bad_targets
        self.rungs = rungs
        self.plan = plan
        self.skipped = skipped


Tell = Callable[[ReferenceStaged | ReferenceDamaged], None]
"""Sends the worker what it must act on while the job runs."""


@dataclass(frozen=True)
class _Inputs:
    """Local copies of what the job starts from."""

    parent: Path
    learned: Path
    head: Path
    candidate: Path | None
    """What an audit judges."""


@dataclass(frozen=True)
class _Resolved:
    """What a job's requests come to, all together."""

    forget: ForgetSet
    """Within the snapshot that the parent has learned."""
    forgotten: tuple[str, ...]
    """There and in the head."""
    kinds: tuple[str, ...]
    records: int
    """Records of the learned snapshot."""
    bad_targets: dict[str, str]


def execute(task: JobTask, workplace: Workplace, report: Progress, tell: Tell) -> Finished:
    """Do the job; its files are in `workplace.staging` afterwards.

    Raises:
        JobFailedError: It cannot be done.
    """
    report("reading", 0, 1)
    inputs = _fetch(task, workplace)
    match task.kind:
        case JobKind.UNLEARN:
            return _unlearn(task, workplace, inputs, report, tell)
        case JobKind.UPDATE:
            return _update(task, workplace, inputs, report)
        case JobKind.AUDIT:
            return _audit(task, workplace, inputs, report, tell)
        case JobKind.REFERENCE:
            return _train_references(task, workplace, inputs, report, tell)


def _fetch(task: JobTask, workplace: Workplace) -> _Inputs:
    storage = Storage(workplace.storage_url, workplace.cache_dir)
    try:
        parent = storage.materialise(task.parent.location)
        # Loading a model compares its files with their manifest; here the manifest is compared with the
        # database's digest, so no file is hashed twice.
        _compare(parent, task.parent, f"Version {task.parent.number} of the model", read=read_manifest)
        learned = _snapshot(storage, task.snapshot)
        head = learned if task.head == task.snapshot else _snapshot(storage, task.head)
        candidate = _fetch_candidate(storage, task.candidate) if task.candidate is not None else None
    except OSError as error:
        reason = f"The storage could not be read ({type(error).__name__})."
        raise JobFailedError(FailureKind.STORAGE, reason) from error
    return _Inputs(parent, learned, head, candidate)


def _fetch_candidate(storage: Storage, stored: Stored) -> Path:
    directory = storage.materialise(stored.location)
    what = f"Version {stored.number} of the model" if stored.number else "The uploaded checkpoint"
    _compare(directory, stored, what, read=read_manifest)
    return directory


def _snapshot(storage: Storage, stored: Stored) -> Path:
    directory = storage.materialise(stored.location)
    _compare(directory, stored, f"Snapshot {stored.number} of the dataset", read=verify_directory)
    return directory


def _compare(directory: Path, stored: Stored, what: str, *, read: Callable[[Path], Any]) -> None:
    try:
        digest = read(directory).digest
    except CheckpointError as error:
        raise JobFailedError(FailureKind.INPUT, f"{what} is damaged in the storage: {error}") from error
    if digest != stored.digest:
        raise JobFailedError(
            FailureKind.INPUT, f"{what} is damaged in the storage: its manifest was changed."
        )


def _unlearn(task: JobTask, workplace: Workplace, inputs: _Inputs, report: Progress, tell: Tell) -> Finished:
    resolved = _resolve(task, inputs)
    if len(resolved.bad_targets) == len(task.targets):
        return Finished(None, False, resolved.bad_targets, (), (), None)
    runtime = get_family(task.family).runtime()
    model, data = _load(runtime, inputs.parent, inputs.learned)
    plan = _plan(task, resolved, runtime.describe(model))
    result = run_plan(
        runtime,
        model,
        data,
        resolved.forget,
        plan,
        reload=lambda: runtime.load_model(inputs.parent),
        policy=AuditPolicy.model_validate(task.policy),
        references=StoredReferences(task, workplace, runtime, resolved.forget.record_ids, tell),
        seed=task.seed,
        progress=report,
    )
    rungs = tuple(_rung_json(rung) for rung in result.rungs)
    skipped = tuple({"method": rung.method, "reason": rung.reason} for rung in result.skipped)
    described = plan.model_dump(mode="json")
    made = _publishable(result) or result.best
    if made is None:
        failures = [f"{rung.method}: {rung.failure}" for rung in result.rungs]
        raise JobFailedError(
            FailureKind.METHOD,
            " ".join([*failures, *(f"{rung.method}: {rung.reason}" for rung in result.skipped)]),
            bad_targets=resolved.bad_targets,
            rungs=rungs,
            plan=described,
            skipped=skipped,
        )
    report("writing", 0, 1)
    candidate = _stage(task, workplace, inputs, *made, resolved.forgotten)
    return Finished(
        candidate=candidate,
        passed=result.chosen is not None,
        bad_targets=resolved.bad_targets,
        forgotten=resolved.forgotten,
        rungs=rungs,
        plan=described,
        skipped=skipped,
    )


def _publishable(result: PipelineResult) -> tuple[Any, RungResult] | None:
    return (result.model, result.chosen) if result.chosen is not None else None


def _resolve(task: JobTask, inputs: _Inputs) -> _Resolved:
    """Find the records that the requests are about; a request whose target is gone is named, the rest go on."""
    learned_ids: set[str] = set()
    head_ids: set[str] = set()
    classes: set[str] = set()
    kinds: set[str] = set()
    bad: dict[str, str] = {}
    with IdIndex.open(inputs.learned / INDEX_NAME) as learned, IdIndex.open(inputs.head / INDEX_NAME) as head:
        for request in task.targets:
            if (problem := _problem(task.family, request, learned, head)) is not None:
                bad[request.request_id] = problem
                continue
            target = TARGET.validate_python(request.target)
            found = resolve_target(task.family, learned, target, also=head)
            learned_ids.update(found.record_ids)
            classes.update(found.classes)
            head_ids.update(resolve_target(task.family, head, target, also=learned).record_ids)
            kinds.add(target.kind)
        records = learned.records
    forget = ForgetSet(record_ids=tuple(sorted(learned_ids)), classes=tuple(sorted(classes)))
    return _Resolved(forget, tuple(sorted(learned_ids | head_ids)), tuple(sorted(kinds)), records, bad)


def _problem(family: str, request: RequestTarget, learned: IdIndex, head: IdIndex) -> str | None:
    """Say why a target cannot be forgotten, without naming ids: the reason outlives the request's retention."""
    if request.target is None:
        return "Its target's ids were erased at the end of their retention."
    target = TARGET.validate_python(request.target)
    missing = missing_ids(family, learned, target, also=head)
    if not missing:
        return None
    return f"{len(missing)} of the target's {target.count} {target.kind} no longer exist in the dataset."


def _load(runtime: FamilyRuntime, parent: Path, learned: Path) -> tuple[Any, Any]:
    try:
        return runtime.load_model(parent), runtime.load_data(learned)
    except (CheckpointError, DatasetError) as error:
        reason = f"The parent version or its data is damaged: {error}"
        raise JobFailedError(FailureKind.INPUT, reason) from error


def _plan(task: JobTask, resolved: _Resolved, architecture: Mapping[str, Any]) -> Plan:
    """Plan for every kind of target in the job: a method must serve them all to stay on the ladder."""
    plans = [
        make_plan(
            PlanInput.model_validate(
                {
                    "family": task.family,
                    "architecture": dict(architecture),
                    "target_kind": kind,
                    "records": resolved.records,
                    "forget": len(resolved.forget.record_ids),
                    "guarantee": task.guarantee,
                    "method": task.method,
                    "parameters": task.parameters,
                    "allow_retrain": task.policy.get("allow_retrain", True),
                }
            )
        )
        for kind in resolved.kinds
    ]
    common = set.intersection(*({rung.method for rung in plan.rungs} for plan in plans))
    if not common:
        raise PlanningError("No method serves all kinds of target that these requests name together.")
    first = plans[0]
    return Plan(rungs=tuple(rung for rung in first.rungs if rung.method in common), ruled_out=first.ruled_out)


def _stage(
    task: JobTask,
    workplace: Workplace,
    inputs: _Inputs,
    model: Any,
    chosen: RungResult,
    forgotten: tuple[str, ...],
) -> Candidate:
    """Write the new version, and the snapshots without the forgotten records, into the staging directory."""
    try:
        snapshot = derive_without(
            task.family, inputs.learned, task.snapshot.number, forgotten, workplace.staging / SNAPSHOT_PART
        )
        head = None
        if task.head != task.snapshot:
            head = derive_without(
                task.family, inputs.head, task.head.number, forgotten, workplace.staging / HEAD_PART
            )
        return _candidate(
            task,
            workplace,
            model,
            base_snapshot=task.snapshot.number,
            method=chosen.method,
            configuration=chosen.configuration,
            audit=chosen.audit.model_dump(mode="json") if chosen.audit is not None else None,
            snapshot=snapshot,
            head=head,
        )
    except OSError as error:
        raise _write_error(error) from error


def _candidate(task: JobTask, workplace: Workplace, model: Any, **fields: Any) -> Candidate:
    directory = workplace.staging / VERSION_PART
    directory.mkdir()
    runtime = get_family(task.family).runtime()
    runtime.save_model(model, directory)
    manifest = read_manifest(directory)
    return Candidate(
        parent_version=task.parent.number,
        head_snapshot=task.head.number,
        manifest=manifest.to_json(),
        digest=manifest.digest,
        size=manifest.size,
        making=describe_making(runtime.describe(model)),
        **fields,
    )


def _rung_json(rung: RungResult) -> dict[str, Any]:
    return {
        "method": rung.method,
        "guarantee": str(rung.guarantee),
        "configuration": rung.configuration,
        "audit": rung.audit.model_dump(mode="json") if rung.audit is not None else None,
        "failure": rung.failure,
        "seconds": rung.seconds,
        "began_at": rung.began_at,
    }


def _update(task: JobTask, workplace: Workplace, inputs: _Inputs, report: Progress) -> Finished:
    """Bring the parent from what it has learned to the dataset's head."""
    if task.head == task.snapshot:
        return Finished(None, True, {}, (), (), None)
    runtime = get_family(task.family).runtime()
    model, data = _load(runtime, inputs.parent, inputs.learned)
    target_data = runtime.load_data(inputs.head)
    updated, made = run_update(runtime, model, data, target_data, seed=task.seed, progress=report)
    try:
        candidate = _candidate(
            task,
            workplace,
            updated,
            base_snapshot=task.head.number,
            method=made.method,
            configuration=made.configuration,
            audit=made.audit.model_dump(mode="json") if made.audit is not None else None,
            snapshot=None,
            head=None,
        )
    except OSError as error:
        raise _write_error(error) from error
    return Finished(candidate, True, {}, (), (), None)


def _audit(task: JobTask, workplace: Workplace, inputs: _Inputs, report: Progress, tell: Tell) -> Finished:
    """Judge a candidate that this job did not make."""
    forget = _audited_set(task, inputs)
    runtime = get_family(task.family).runtime()
    model, data = _load(runtime, inputs.parent, inputs.learned)
    try:
        candidate = runtime.load_model(cast("Path", inputs.candidate))
    except CheckpointError as error:
        raise JobFailedError(FailureKind.INPUT, f"What is to be judged does not load: {error}") from error
    architectures = [str(runtime.describe(loaded)["architecture"]) for loaded in (model, candidate)]
    if architectures[0] != architectures[1]:
        reason = f"The original is of the architecture {architectures[0]}, what is to be judged of {architectures[1]}."
        raise JobFailedError(FailureKind.INPUT, reason)
    audit = judge_candidate(
        runtime,
        model,
        candidate,
        data,
        forget,
        reload=lambda: runtime.load_model(inputs.parent),
        policy=AuditPolicy.model_validate(task.policy),
        references=StoredReferences(task, workplace, runtime, forget.record_ids, tell),
        seed=task.seed,
        progress=report,
    )
    return Finished(None, True, {}, (), (), None, audit=audit.model_dump(mode="json"))


def _audited_set(task: JobTask, inputs: _Inputs) -> ForgetSet:
    """Find the records that an audit asks about, in what the original has learned."""
    [request] = task.targets
    with IdIndex.open(inputs.learned / INDEX_NAME) as learned:
        if (problem := _problem(task.family, request, learned, learned)) is not None:
            raise JobFailedError(FailureKind.INPUT, problem)
        return resolve_target(task.family, learned, TARGET.validate_python(request.target))


def _train_references(
    task: JobTask, workplace: Workplace, inputs: _Inputs, report: Progress, tell: Tell
) -> Finished:
    """Train what later audits will compare with; those that are there already cost nothing."""
    runtime = get_family(task.family).runtime()
    model, data = _load(runtime, inputs.parent, inputs.learned)
    forget = _audited_set(task, inputs) if task.targets else ForgetSet()
    try:
        train_ahead(
            runtime,
            data,
            forget,
            reload=lambda: model,
            policy=AuditPolicy.model_validate(task.policy),
            references=StoredReferences(task, workplace, runtime, forget.record_ids, tell),
            seed=task.seed,
            progress=report,
        )
    except MissingReferenceError as error:
        raise JobFailedError(FailureKind.METHOD, str(error)) from error
    return Finished(None, True, {}, (), (), None)


def _write_error(error: OSError) -> JobFailedError:
    return JobFailedError(FailureKind.STORAGE, f"The result could not be written ({type(error).__name__}).")
