"""Decisions about reports: which rows make one up. Nothing here commits."""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.reports import repository
from app.reports.schemas import (
    Acceptance,
    Asked,
    Gauge,
    Independent,
    Made,
    Sheet,
    Skipped,
    Tried,
    VersionReport,
)
from app.tables import AuditRun, Job, Model, Version
from app.trust.certificates.statement import fill
from unlearning.audits.report import Audit

UTILITY, FORGETTING = "utility", "forgetting"
POWER = "power"
"""A check of the audit itself: it tells nothing of the version."""


def version_report(session: Session, model: Model, version: Version) -> VersionReport:
    """Put together what is known of a version that has an audit."""
    job = session.get(Job, version.job_id) if version.job_id is not None else None
    outcome = (job.outcome or {}) if job is not None else {}
    rungs = outcome.get("rungs", [])
    audit = Audit.model_validate(version.audit)
    return VersionReport(
        **dict(audit),
        model=model.name,
        version=version.number,
        parent=version.parent,
        asked=_asked(session, version),
        made=Made(
            method=version.method or audit.method,
            guarantee=audit.guarantee,
            configuration=version.configuration or {},
            seed=job.seed if job is not None else None,
            started_at=job.started_at if job is not None else None,
            finished_at=job.finished_at if job is not None else None,
        ),
        ladder=_ladder(rungs, version),
        policy=job.policy if job is not None else None,
        acceptance=_acceptance(session, version),
        rungs=rungs,
        skipped=outcome.get("skipped", []),
    )


def sheet_of_version(report: VersionReport) -> Sheet:
    """Return what a version's page shows."""
    audit = {name: getattr(report, name) for name in Audit.model_fields}
    shared = {name: getattr(report, name) for name in Sheet.model_fields if hasattr(report, name)}
    skipped = tuple(Skipped(method=rung["method"], reason=rung["reason"]) for rung in report.skipped)
    return Sheet(**shared | {"skipped": skipped}, audit=Audit(**audit), build=build())


def sheet_of_audit(run: AuditRun, job: Job, model: str) -> Sheet:
    """Return what the page of an audit without unlearning shows."""
    return Sheet(
        model=model,
        independent=Independent(
            id=run.id,
            original=run.parent_version,
            candidate=run.candidate_version,
            checkpoint=run.digest,
            target_kind=run.target_kind,
            target_count=run.target_count,
            reference=run.reference,
            status=job.state.value,
            reason=job.reason,
            created_at=run.created_at,
            finished_at=job.finished_at,
        ),
        policy=job.policy,
        audit=Audit.model_validate(run.result) if run.result is not None else None,
        build=build(),
    )


def build() -> str:
    """Return the version of the service."""
    return importlib.metadata.version("expunge")


def tried(rung: Mapping[str, Any], *, chosen: bool) -> Tried:
    """Return a rung of a job's outcome by its deciding figures."""
    audit = Audit.model_validate(rung["audit"]) if rung["audit"] is not None else None
    return Tried(
        method=rung["method"],
        guarantee=rung["guarantee"],
        verdict=audit.verdict if audit is not None else None,
        utility=_gauge(audit, UTILITY),
        forget_quality=_gauge(audit, FORGETTING),
        seconds=rung["seconds"],
        failure=rung["failure"],
        chosen=chosen,
    )


def _gauge(audit: Audit | None, group: str) -> Gauge | None:
    """Return the first check of a group that decides; checks come in the order of their weight."""
    deciding = [
        check
        for check in (audit.checks if audit is not None else ())
        if check.gating and check.group == group and check.name != POWER
    ]
    if not deciding:
        return None
    check = deciding[0]
    return Gauge(
        name=check.name,
        value=check.value,
        limits=check.limits,
        reference=check.reference,
        original=check.anchors.get("original"),
        outcome=check.outcome,
    )


def _ladder(rungs: Sequence[Mapping[str, Any]], version: Version) -> tuple[Tried, ...]:
    """Mark the one rung that the version is the result of: the last that has its method and its audit."""
    made = [
        place
        for place, rung in enumerate(rungs)
        if rung["method"] == version.method and rung["audit"] == version.audit
    ]
    return tuple(tried(rung, chosen=place in made[-1:]) for place, rung in enumerate(rungs))


def _asked(session: Session, version: Version) -> Asked | None:
    first = repository.first_request(session, version)
    if first is None:
        return None
    targets = repository.targets_asked(session, version)
    references, count = repository.references(session, version)
    return Asked(
        requests=sum(asked.requests for asked in targets),
        targets=targets,
        guarantee=first.guarantee,
        method=first.method,
        parameters=first.parameters,
        references=tuple(references),
        further_references=count - len(references),
    )


def _acceptance(session: Session, version: Version) -> Acceptance | None:
    """Read from what was signed of the version who accepted it, and why."""
    frame = repository.certificate_frame(session, version.model_id, version.number)
    if frame is None:
        return None
    verdict = json.loads(fill(frame, "null"))["predicate"]["verdict"]
    if verdict["accepted_by"] is None:
        return None
    return Acceptance(by=verdict["accepted_by"], reviewer=verdict["reviewer"], reason=verdict["reason"])
