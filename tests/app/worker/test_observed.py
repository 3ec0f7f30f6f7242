"""What a worker counts, traces and binds while it serves a job."""

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from app.telemetry.tracing import Tracing
from app.worker.claims import claim
from app.worker.settlement import reap
from app.worker.task import Failure, FailureKind
from app.worker.worker import Worker

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def growth():
    """Return by how much a sample has grown since the last time."""
    seen: dict[tuple, float] = {}

    def growth(name: str, **labels: str) -> float:
        key = name, *sorted(labels.items())
        value = REGISTRY.get_sample_value(name, labels) or 0.0
        before, seen[key] = seen.get(key, 0.0), value
        return value - before

    return growth


def test_a_job_is_counted_by_kind_outcome_method_and_verdict(yard, worker, growth):
    counters = (
        ("expunge_jobs_total", {"kind": "unlearn", "outcome": "completed"}),
        ("expunge_job_duration_seconds_count", {"kind": "unlearn"}),
        ("expunge_method_duration_seconds_count", {"method": "acu"}),
        ("expunge_audit_verdicts_total", {"method": "acu", "verdict": "pass"}),
    )
    changes = ("expunge_forget_request_changes_total", {"status": "completed"})
    for name, labels in (*counters, changes):
        growth(name, **labels)
    model = yard.model()
    yard.request(model, "r1")
    yard.request(model, "r2")

    worker.run_until_idle()

    assert [growth(name, **labels) for name, labels in counters] == [1.0] * 4
    assert growth(changes[0], **changes[1]) == 2


def test_a_lost_lease_is_counted(yard, worker, executor, runtime, growth):
    yard.request(yard.model(), "r1")
    growth("expunge_leases_lost_total")

    def overslept(task, place):
        [job] = yard.jobs()
        yard.expire(job.id)
        assert reap(runtime.database, runtime.settings)
        yield Failure(FailureKind.METHOD, "It failed, but too late.")

    executor.scripts = [overslept]
    worker.step()

    assert growth("expunge_leases_lost_total") == 1


def test_a_worker_that_takes_over_counts_it(yard, worker, runtime, growth):
    yard.request(yard.model(), "r1")
    left = claim(runtime.database, runtime.settings, "a worker that dies")
    yard.expire(left.lease.job_id)
    growth("expunge_leases_expired_total")

    worker.run_until_idle()

    assert growth("expunge_leases_expired_total") == 1


def test_a_jobs_lines_name_it_here_and_in_its_own_process(yard, worker, executor):
    request_id = yard.request(yard.model(), "r1")
    bound = []

    def look(task, place):
        bound.extend((structlog.contextvars.get_contextvars(), place.log.context))
        yield executor.forget(task, place)

    executor.scripts = [look]
    worker.run_until_idle()

    [job] = yard.jobs()
    expected = {
        "job_id": str(job.id),
        "model": "pets",
        "forget_requests": [str(request_id)],
        "forget_request_count": 1,
    }
    assert bound == [expected, expected]
    assert structlog.contextvars.get_contextvars() == {}


def test_a_job_is_a_span_linked_to_the_calls_that_led_to_it(yard, runtime, executor, worker):
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yard.request(yard.model(), "r1", traceparent=PARENT)

    def forget(task, place):
        finished = executor.forget(task, place)
        yield type(finished)(**{**vars(finished), "rungs": ({**finished.rungs[0], "began_at": 1_000.0},)})

    executor.scripts = [forget]
    Worker(runtime, executor, worker._stop, Tracing(provider)).run_until_idle()

    spans = {span.name: span for span in exported.get_finished_spans()}
    assert set(spans) == {"claim", "job", "rung", "publish"}
    job = spans["job"]
    assert [f"{link.context.span_id:016x}" for link in job.links] == [PARENT.split("-")[2]]
    assert job.attributes["expunge.kind"] == "unlearn"
    assert spans["rung"].parent.span_id == spans["publish"].parent.span_id == job.context.span_id
    assert dict(spans["rung"].attributes) == {"expunge.method": "acu", "expunge.verdict": "pass"}
    assert (spans["rung"].end_time - spans["rung"].start_time) == 100_000_000
