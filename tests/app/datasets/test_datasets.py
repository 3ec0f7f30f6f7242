def test_a_dataset_is_registered_and_shown(registry, client, admin_headers):
    created = registry.dataset("letters")
    assert created["head"]["records"] == 30
    assert created["head"]["subjects"] == 15
    shown = client.get(f"/v1/datasets/{created['id']}", headers=admin_headers).json()
    assert shown["data_schema"]["classes"] == ["a", "b", "c"]
    assert [snapshot["number"] for snapshot in shown["snapshots"]] == [1]


def test_a_model_is_registered_and_downloaded(registry, client, admin_headers):
    registry.model("reader")
    answer = client.get("/v1/models/reader/versions/latest/files/config.json", headers=admin_headers)
    assert answer.status_code == 307
    answer = client.get(answer.headers["location"], headers=admin_headers)
    assert answer.status_code == 200, answer.text
