"""Metrics: what they count, that a database which is away is a sample, and that no label holds an id."""

import datetime as dt
import re
import socket
import threading
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from app.retention.sweeper import Swept
from app.tables import ForgetRequest, WebhookEndpoint, WebhookMessage
from app.tables.base import new_id
from app.tables.forget_request import RequestStatus
from app.tables.webhook_endpoint import MessageFormat, Subscription
from app.telemetry import metrics
from app.telemetry.collector import DatabaseCollector, read_backlog
from app.telemetry.exposition import worker_metrics
from app.telemetry.overdue import OverdueWarnings

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def samples(client):
    """Return the value of a sample at `/metrics`."""

    def read() -> dict[str, float]:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        return {
            sample.name
            + "".join(f"{{{key}={value}}}" for key, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    return read


@pytest.fixture
def add_request(runtime, shelf):
    model = shelf.model()

    def add(status: str = "pending", *, age: float = 0.0, due_in: float = 1000.0) -> str:
        created = NOW - dt.timedelta(seconds=age)
        request = ForgetRequest(
            id=new_id(),
            model_id=model.id,
            target={"kind": "records", "ids": ["unmistakable-4711"]},
            target_kind="records",
            target_count=1,
            guarantee="any",
            method="auto",
            parameters={},
            group_key="0" * 64,
            split="",
            status=RequestStatus(status),
            due_at=NOW + dt.timedelta(seconds=due_in),
            created_at=created,
            updated_at=created,
        )
        with runtime.database.write() as session:
            session.add(request)
        return str(request.id)

    return add


def test_the_database_tells_of_the_backlog(samples, add_request):
    add_request(age=500)
    add_request(age=10, due_in=-5)
    add_request("needs_review", due_in=-5)
    add_request("failed")
    add_request("completed", due_in=-5)

    seen = samples()

    assert seen["expunge_database_up"] == 1
    assert seen["expunge_forget_requests{status=pending}"] == 2
    assert seen["expunge_forget_requests{status=running}"] == 0
    assert seen["expunge_forget_requests{status=needs_review}"] == 1
    assert seen["expunge_forget_requests_overdue"] == 2
    assert 499 < seen["expunge_queue_age_seconds"] < 700
    assert seen["expunge_log_size"] == 0
    assert seen["expunge_database_pool_connections{state=size}"] > 0


def test_messages_that_wait_are_counted(runtime, make_key):
    make_key()
    with runtime.database.write() as session:
        key_id = session.scalars(text("SELECT id FROM api_keys").columns(id=WebhookEndpoint.id.type)).first()
        endpoint = WebhookEndpoint(
            id=new_id(),
            api_key_id=key_id,
            url="https://example.org/",
            format=MessageFormat.STANDARD,
            subscription=Subscription.ALL,
            secret=b"s" * 32,
            created_at=NOW,
        )
        session.add(endpoint)
        session.flush()
        session.add_all(
            WebhookMessage(endpoint_id=endpoint.id, type="t", payload={}, next_attempt_at=at, created_at=NOW)
            for at in (NOW, None)
        )
    with runtime.database.read() as session:
        assert read_backlog(session).webhooks == 1


def test_a_database_that_is_away_is_a_sample_and_no_error(tmp_path):
    registry = CollectorRegistry()
    for url in (f"sqlite:///{tmp_path}/absent/expunge.db", "postgresql+psycopg://nobody@127.0.0.1:1/expunge"):
        registry.register(collector := DatabaseCollector(url))
        assert b"expunge_database_up 0.0" in generate_latest(registry)
        assert b"expunge_queue_age" not in generate_latest(registry)
        registry.unregister(collector)
        collector.close()


def test_many_scrapes_at_once_ask_the_database_once(runtime, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "app.telemetry.collector.read_backlog", lambda session: asked.append(1) or read_backlog(session)
    )
    collector = DatabaseCollector(runtime.settings.database_url)
    for _ in range(5):
        assert len(list(collector.collect())) > 1
    assert len(asked) == 1


def test_the_backlog_is_read_from_an_index_of_open_work_alone(runtime, add_request):
    """Were a query to read the table, its cost would grow with every request that was ever completed."""
    add_request()
    open_ones = "FROM forget_requests WHERE status IN ('pending', 'running', 'needs_review', 'failed')"
    queries = (
        f"SELECT status, count(*) {open_ones} GROUP BY status",
        f"SELECT count(*) {open_ones} AND due_at < '2026-01-01 00:00:00'",
    )
    with runtime.database.read() as session:
        if runtime.database.dialect == "sqlite":
            plans = [str(session.execute(text(f"EXPLAIN QUERY PLAN {query}")).all()) for query in queries]
        else:
            session.execute(text("SET enable_seqscan = off"))
            plans = [str(session.execute(text(f"EXPLAIN {query}")).all()) for query in queries]
    assert all("ix_forget_requests_open" in plan for plan in plans), plans


def test_calls_are_counted_by_template(client, samples, admin_headers):
    series = "expunge_http_request_duration_seconds_count{method=GET}{route=/v1/models/{name}}{status=404}"
    before = samples().get(series, 0)
    client.get("/v1/models/unmistakable-4711", headers=admin_headers)
    client.get("/v1/models/unmistakable-4712", headers=admin_headers)
    after = samples()
    assert after[series] == before + 2
    assert not [name for name in after if "unmistakable" in name]


def test_labels_hold_no_ids(client, samples, admin_headers, add_request):
    request_id = add_request()
    client.get(f"/v1/forget-requests/{request_id}", headers=admin_headers)
    names = "\n".join(samples())
    assert "/v1/forget-requests/{request_id}" in names
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", names)


def test_only_what_was_committed_is_counted(runtime):
    seen = []
    with runtime.database.write() as session:
        metrics.when_committed(session, lambda: seen.append("committed"))
        session.execute(text("SELECT 1"))
    with pytest.raises(RuntimeError), runtime.database.write() as session:
        metrics.when_committed(session, lambda: seen.append("rolled back"))
        session.execute(text("SELECT 1"))
        raise RuntimeError
    assert seen == ["committed"]


def test_a_sweep_is_counted_by_what_it_did():
    before = metrics.swept.labels("versions")._value.get()
    metrics.count_sweep(Swept(versions=3))
    assert metrics.swept.labels("versions")._value.get() == before + 3


def test_a_worker_serves_its_metrics_on_loopback(runtime, settings):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runtime = type(runtime)(
        **{**vars(runtime), "settings": settings.model_copy(update={"worker_metrics_port": port})}
    )
    threads = threading.active_count()
    with worker_metrics(runtime), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        body = answer.read()
    assert b"expunge_leases_expired_total" in body
    assert b"expunge_database_pool_connections" in body
    assert threading.active_count() <= threads


def test_overdue_requests_are_warned_of_by_id_once_per_change(runtime, add_request, caplog):
    warnings = OverdueWarnings(runtime.database)
    warnings.look()
    assert caplog.records == []
    first = add_request(due_in=-10)
    warnings.look()
    warnings.look()
    second = add_request(due_in=-5)
    warnings.look()

    assert [(record.overdue, record.forget_requests) for record in caplog.records] == [
        (1, [first]),
        (2, [first, second]),
    ]
    assert "unmistakable" not in caplog.text
