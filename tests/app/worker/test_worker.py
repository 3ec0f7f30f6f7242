"""The engine with scripted jobs: what becomes of requests, versions, snapshots and files."""

import uuid

from app.tables import Dataset, ForgetRequest, Model, Snapshot, Version


def test_a_forget_request_becomes_a_new_version(yard, worker):
    model = yard.model()
    request_id = yard.request(model, "r1", "r2")

    assert worker.run_until_idle() == 1

    request = yard.get(ForgetRequest, request_id)
    assert request.status.value == "completed"
    assert request.version == 2
    assert request.completed_at is not None
    assert [status for status, _ in yard.reasons(request_id)] == ["running", "completed"]
    assert yard.get(Model, model.id).latest_version == 2
    first, second = yard.get(Version, (model.id, 1)), yard.get(Version, (model.id, 2))
    assert first.state.value == "quarantined"
    assert second.state.value == "published"
    assert (second.parent, second.origin.value, second.method) == (1, "unlearned", "acu")
    assert second.snapshot == 2
    assert yard.get(Dataset, model.dataset_id).head_snapshot == 2
    assert yard.records(model.dataset_id) == {f"r{number}" for number in range(12)} - {"r1", "r2"}
    snapshot = yard.get(Snapshot, (model.dataset_id, 2))
    assert (snapshot.parent, snapshot.origin.value, snapshot.records) == (1, "forgotten", 10)
    assert yard.stored() == yard.recorded()
    [job] = yard.jobs()
    assert (job.state.value, job.parent_version, job.produced_version) == ("completed", 1, 2)
    assert job.outcome["rungs"][0]["method"] == "acu"
