import json
import os
import shutil
from pathlib import Path

import fsspec
import pytest

from app.imports import ImportFailedError, ImportNotAllowedError, import_files
from app.settings import Settings


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "expunge.db")
    return f"sqlite:///{tmp_path}/expunge.db"


@pytest.fixture
def root(settings) -> Path:
    return Path(settings.import_roots[0])


@pytest.fixture
def out(tmp_path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


def fetch(settings, uri, out) -> dict[str, bytes]:
    files = import_files(settings, str(uri), out)
    return {file.path: (out / file.path).read_bytes() for file in files}


def test_a_dataset_is_imported_from_a_file_under_a_root(registry, client, admin_headers, root):
    (root / "letters.jsonl").write_bytes(registry.records(30))
    body = {"name": "letters", "family": "classifier", "uri": str(root / "letters.jsonl")}
    answer = client.post("/v1/datasets", json=body, headers=admin_headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["head"]["records"] == 30


def test_a_model_is_imported_from_a_directory(registry, client, admin_headers, root):
    dataset = registry.dataset("letters")
    (root / "model").mkdir()
    for name, content in registry.checkpoint().items():
        (root / "model" / name).write_bytes(content)
    body = {"name": "reader", "family": "classifier", "dataset": dataset["id"], "uri": f"file://{root}/model"}
    answer = client.post("/v1/models", json=body, headers=admin_headers)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "uri", ["/etc/passwd", "file:///etc/passwd", "relative", "../x", "s3://bucket/x", "~/x", ""]
)
def test_what_lies_outside_every_root_is_refused(client, admin_headers, unchanged, uri):
    body = {"name": "letters", "family": "classifier", "uri": uri}
    with unchanged():
        answer = client.post("/v1/datasets", json=body, headers=admin_headers)
    assert answer.status_code == (403 if uri else 422)
    if uri:
        assert answer.json()["type"] == "urn:expunge:problem:import-not-allowed"
        assert "imports" not in answer.json()["detail"].replace("IMPORT", "")


def test_neither_dots_nor_links_lead_out_of_a_root(settings, root, out, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (root / "link.csv").symlink_to(secret)
    (root / "folder").mkdir()
    (root / "folder" / "link.csv").symlink_to(secret)
    (root / "up").symlink_to(tmp_path)
    beside = tmp_path / "imports-beside"
    beside.mkdir()
    (beside / "x.csv").write_text("secret")
    for uri in (
        f"{root}/../secret.csv",
        root / "link.csv",
        root / "folder",
        root / "up" / "secret.csv",
        beside / "x.csv",
    ):
        with pytest.raises(ImportNotAllowedError):
            import_files(settings, str(uri), out)
    assert list(out.rglob("*.csv")) == []


def test_links_within_a_root_are_followed(settings, root, out):
    (root / "blobs").mkdir()
    (root / "blobs" / "0123").write_text("content")
    (root / "model").mkdir()
    (root / "model" / "config.json").symlink_to("../blobs/0123")
    assert fetch(settings, root / "model", out) == {"config.json": b"content"}


def test_special_files_and_absent_ones_are_refused_without_waiting(settings, root, out):
    os.mkfifo(root / "pipe.csv")
    (root / "empty").mkdir()
    for name in "pipe.csv", "absent.csv", "empty":
        with pytest.raises(ImportFailedError):
            import_files(settings, str(root / name), out)


def test_an_import_is_no_larger_than_an_upload_may_be(settings, root, out):
    (root / "big.csv").write_bytes(b"x" * 2000)
    small = settings.model_copy(update={"max_upload_bytes": 1999})
    with pytest.raises(ImportFailedError, match="at most 1999 bytes"):
        import_files(small, str(root / "big.csv"), out)


def test_a_file_name_with_a_line_break_is_refused(client, admin_headers, registry, root, unchanged):
    (root / "two\nlines.jsonl").write_bytes(registry.records(3))
    body = {"name": "letters", "family": "classifier", "uri": str(root)}
    with unchanged():
        answer = client.post("/v1/datasets", json=body, headers=admin_headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:invalid-checkpoint")


@pytest.fixture
def remote():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe({"/open/model/a.json": b"a", "/open/model/deep/b.json": b"b", "/closed/c.json": b"c"})
    yield Settings(_env_file=None, import_roots=("memory://open/",))
    filesystem.rm("/open", recursive=True)
    filesystem.rm("/closed", recursive=True)


def test_remote_files_are_imported_by_prefix(remote, out):
    assert fetch(remote, "memory://open/model", out) == {"a.json": b"a", "deep/b.json": b"b"}


@pytest.mark.parametrize(
    "uri",
    [
        "memory://closed/c.json",
        "memory://open/../closed/c.json",
        "memory://open/%2e%2e/closed/c.json",
        "memory://opened/x",
        "simplecache::memory://open/model",
        "memory://open/model::file:///etc",
        "memory://open/model?x",
        "MEMORY://open/model",
    ],
)
def test_remote_files_elsewhere_are_refused(remote, out, uri):
    with pytest.raises(ImportNotAllowedError):
        import_files(remote, uri, out)


@pytest.mark.parametrize("uri", ["memory://open/absent", "nosuchscheme://open/x"])
def test_remote_failures_are_told(remote, out, uri):
    allowed = remote.model_copy(update={"import_roots": (*remote.import_roots, "nosuchscheme://open")})
    with pytest.raises(ImportFailedError):
        import_files(allowed, uri, out)


def test_imports_are_off_unless_roots_are_named(root, out):
    (root / "x.csv").write_text("x")
    with pytest.raises(ImportNotAllowedError):
        import_files(Settings(_env_file=None), str(root / "x.csv"), out)


def test_a_repeated_import_gives_the_first_answer_again(client, admin_headers, registry, root):
    (root / "letters.jsonl").write_bytes(registry.records(3))
    body = json.dumps({"name": "letters", "family": "classifier", "uri": str(root / "letters.jsonl")})
    headers = {**admin_headers, "Idempotency-Key": "once", "Content-Type": "application/json"}
    first, again = (client.post("/v1/datasets", content=body, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    assert "idempotent-replayed" in again.headers
