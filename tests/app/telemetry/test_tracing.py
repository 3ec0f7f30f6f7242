"""Traces: spans from the call to the publication, linked, and without anything personal."""

import builtins

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.main import create_app
from app.tables import ForgetRequest
from app.telemetry.tracing import Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported():
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exported):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return Tracing(provider)


@pytest.fixture
def traced(settings, tracing, monkeypatch):
    monkeypatch.setattr(Tracing, "start", classmethod(lambda *_: tracing))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def test_a_call_is_a_span_of_its_clients_trace(traced, exported, shelf, admin_headers):
    shelf.model()
    body = {"model": "pets", "target": {"kind": "records", "ids": ["r0", "r1"]}}
    answer = traced.post(
        "/v1/forget-requests?x=unmistakable", json=body, headers={**admin_headers, "traceparent": PARENT}
    )

    assert answer.status_code == 202
    [span] = exported.get_finished_spans()
    assert span.name == "POST /v1/forget-requests"
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert dict(span.attributes) == {
        "expunge.request_id": answer.headers["X-Request-ID"],
        "http.request.method": "POST",
        "http.route": "/v1/forget-requests",
        "http.response.status_code": 202,
    }


def test_the_request_carries_the_trace_to_its_job(traced, shelf, admin_headers, runtime, exported):
    shelf.model()
    body = {"model": "pets", "target": {"kind": "records", "ids": ["r0"]}}
    request_id = traced.post("/v1/forget-requests", json=body, headers=admin_headers).json()["id"]
    [span] = exported.get_finished_spans()
    with runtime.database.read() as session:
        [stored] = [row.traceparent for row in session.query(ForgetRequest) if str(row.id) == request_id]
    assert stored.split("-")[2] == f"{span.context.span_id:016x}"


def test_a_failure_is_told_by_its_type_alone(tracing, exported):
    with pytest.raises(ValueError, match="4711"), tracing.span("publish", method="acu"):
        raise ValueError("about 4711")
    [span] = exported.get_finished_spans()
    assert dict(span.attributes) == {"expunge.method": "acu", "error.type": "ValueError"}
    assert (span.events, span.status.is_ok, span.status.description) == ((), False, None)


def test_a_span_of_the_past_has_its_own_times(tracing, exported):
    with tracing.span("job", follows=[PARENT, "nonsense"], requests=1):
        tracing.past("rung", 1_000.0, 2.5, method="acu", verdict="pass")
    rung, job = exported.get_finished_spans()
    assert (rung.start_time, rung.end_time) == (1_000_000_000_000, 1_002_500_000_000)
    assert rung.parent.span_id == job.context.span_id
    assert [f"{link.context.span_id:016x}" for link in job.links] == [PARENT.split("-")[2]]


def test_without_an_endpoint_nothing_is_traced(settings, monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert Tracing.start(settings, "api")._tracer is None


def test_an_endpoint_in_the_standard_environment_switches_it_on(settings, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing = Tracing.start(settings, "api")
    assert tracing._tracer is not None
    tracing.close()


def test_without_the_extra_the_service_runs_and_says_what_is_missing(settings, monkeypatch, caplog):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    tracing = Tracing.start(
        settings.model_copy(update={"trace_endpoint": "http://127.0.0.1:1/v1/traces"}), "api"
    )
    with tracing.span("job"):
        pass
    [record] = caplog.records
    assert "install Expunge with its [otel] extra" in record.getMessage()


def test_the_frameworks_own_telemetry_stays_off_whatever_the_environment_says(settings, monkeypatch):
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    assert not create_app(settings)._native_telemetry.enabled()
