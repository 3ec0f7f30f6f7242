import hashlib
import json
import shutil
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from app import uploads
from app.main import create_app
from app.uploads import UploadCutOffError, UploadReceiver, UploadRefusedError
from models.errors import CheckpointError

METADATA = b'{"name": "letters", "family": "classifier"}'


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    """SQLite alone: what uploads do to SQL is tested where they are registered."""
    shutil.copy(sqlite_template, tmp_path / "expunge.db")
    return f"sqlite:///{tmp_path}/expunge.db"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return f"--line\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


def body(*files: tuple[str, bytes], metadata: bytes | None = METADATA) -> bytes:
    parts = [part("metadata", metadata)] if metadata is not None else []
    return b"".join([*parts, *(part("files", content, name) for name, content in files)]) + b"--line--\r\n"


def receive(directory, data: bytes, step: int | None = None) -> uploads.Upload:
    receiver = UploadReceiver(b"line", directory)
    try:
        for start in range(0, len(data), step or len(data)):
            receiver.feed(data[start : start + (step or len(data))])
        return receiver.finish()
    finally:
        receiver.close()


@pytest.mark.parametrize("step", [1, 2, 7, 64, None])
def test_files_arrive_whole_however_the_body_is_cut_into_packets(tmp_path, step):
    contents = {"a.bin": b"\r\n--lin\r\n--line-no", "deep/b.bin": bytes(range(256)), "empty": b""}
    upload = receive(tmp_path, body(*contents.items()), step)
    assert upload.metadata == METADATA
    assert {file.path: (file.sha256, file.size) for file in upload.files} == {
        name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()
    }
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "./a",
        "a\\\\b",
        "a%0Ab",
        "a%0D%0Ab",
        "a\x00b",
        "a\x1bb",
        "",
        "é" * 200,
    ],
)
def test_an_unusable_file_name_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(CheckpointError, match="not an acceptable file name"):
        receive(tmp_path, body((name, b"x")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_a_name_that_is_used_twice_is_refused(tmp_path, names):
    with pytest.raises(CheckpointError, match="used twice"):
        receive(tmp_path, body(*((name, b"x") for name in names)))


def test_more_files_than_allowed_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_FILES", 3)
    receive(tmp_path, body(*((f"{number}", b"") for number in range(3))))
    with pytest.raises(UploadRefusedError, match="at most 3 files"):
        receive(tmp_path, body(*((f"more{number}", b"") for number in range(4))))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (body(("a", b"x"), metadata=None), "needs a JSON part named 'metadata'"),
        (body(), "at least one file"),
        (part("metadata", b"{}") + body(("a", b"x")), "two parts named 'metadata'"),
        (part("surprise", b"x") + body(("a", b"x")), "Unexpected part 'surprise'"),
        (part("files", b"x") + body(), "Unexpected part 'files'"),
        (body(metadata=b"x" * (uploads.MAX_METADATA_BYTES + 1)), "larger than"),
        (b"no boundary at all", "cannot be read"),
        (b"--line\r\n" + b"X-Header: x\r\n" * 100 + b"\r\n", "cannot be read"),
        (b"--line\r\nX-Header: " + b"x" * 100_000 + b"\r\n\r\n", "cannot be read"),
        (b"--line\r\nX-Header" + b"x" * 100_000, "cannot be read"),
        (b'--line\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n', "UTF-8"),
    ],
)
def test_a_malformed_body_is_refused_with_its_reason(tmp_path, data, reason):
    with pytest.raises(UploadRefusedError, match=reason):
        receive(tmp_path, data)


@pytest.mark.parametrize("missing", range(1, len(b"--\r\n") + 20))
def test_a_body_without_its_end_is_refused(tmp_path, missing):
    data = body(("a", b"content"))[:-2]  # the line break after the closing boundary is optional
    with pytest.raises(UploadCutOffError):
        receive(tmp_path, data[:-missing])


class Server(uvicorn.Server):
    def __init__(self, config):
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.ready.set()


@pytest.fixture
def serve(service):
    """A context with a real server; when it ends, every call has come to its end."""

    @contextmanager
    def running():
        server = Server(uvicorn.Config(service, port=0, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            assert server.ready.wait(10)
            yield server.servers[0].sockets[0].getsockname()
        finally:
            server.should_exit = True
            thread.join(10)

    return running


@pytest.fixture
def first_piece(monkeypatch):
    """Set once the first piece of an upload is on disk."""
    written = threading.Event()
    feed = UploadReceiver.feed

    def feed_and_tell(self, data):
        feed(self, data)
        written.set()

    monkeypatch.setattr(UploadReceiver, "feed", feed_and_tell)
    return written


def request_head(headers: dict[str, str], length: int, path: str = "/v1/datasets") -> bytes:
    lines = {
        "Host": "localhost",
        "Content-Type": "multipart/form-data; boundary=line",
        "Content-Length": str(length),
        **headers,
    }
    return (
        f"POST {path} HTTP/1.1\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        + "\r\n"
    ).encode()


def test_an_upload_whose_client_goes_away_leaves_nothing_behind(
    serve, admin_headers, unchanged, first_piece, settings
):
    data = part("metadata", METADATA) + part("files", b"x" * (3 << 20), "records.csv")[:-2]
    with unchanged(), serve() as address, socket.create_connection(address) as connection:
        connection.sendall(request_head(admin_headers, len(data) + 1000) + data)
        assert first_piece.wait(10)
        (staged,) = (Path(settings.storage_url) / ".staging").iterdir()
        assert (staged / "files" / "records.csv").exists()
        # Leaving the server waits until the call is over.


def test_clients_that_go_away_are_no_failures_of_the_service(
    serve, admin_headers, unchanged, first_piece, caplog
):
    data = part("metadata", METADATA) + part("files", b"x" * (2 << 20), "records.csv")
    with unchanged(), serve() as address:
        with socket.create_connection(address) as connection:
            connection.sendall(request_head(admin_headers, len(data) + 1000) + data)
            assert first_piece.wait(10)
        for path in "/v1/datasets", "/v1/forget-requests":
            with socket.create_connection(address) as connection:
                head = request_head({**admin_headers, "Content-Type": "application/json"}, 1000, path)
                connection.sendall(head + b"{")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_one_upload_spends_one_token_of_its_key_s_rate(settings, admin_headers, registry):
    slow = settings.model_copy(update={"rate_limit_burst": 1, "rate_limit_per_second": 1e-6})
    files = [("metadata", (None, METADATA)), ("files", ("records.jsonl", registry.records(3)))]
    with TestClient(create_app(slow)) as client:
        statuses = [
            client.post("/v1/datasets", files=files, headers=admin_headers).status_code for _ in range(2)
        ]
    assert statuses == [201, 429]


def test_an_upload_without_its_end_is_told_so(serve, admin_headers, unchanged):
    data = part("metadata", METADATA) + part("files", b"x" * 1000, "records.csv")
    with unchanged(), serve() as address, socket.create_connection(address) as connection:
        connection.sendall(request_head({**admin_headers, "Connection": "close"}, len(data)) + data)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:expunge:problem:upload-cut-off"


def test_the_key_is_checked_before_the_body_is_sent(serve, make_key, unchanged):
    for headers, status in ({"Authorization": "Bearer xp_wrong"}, 401), (make_key(), 403):
        with unchanged(), serve() as address, socket.create_connection(address) as connection:
            connection.sendall(request_head({**headers, "Connection": "close"}, 1 << 30))
            assert connection.recv(12) == f"HTTP/1.1 {status}".encode()


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_an_upload_that_is_too_large_is_refused(settings, admin_headers, unchanged):
    small = create_app(settings.model_copy(update={"max_upload_bytes": 100_000}))
    files = [("metadata", (None, METADATA)), ("files", ("records.csv", b"x" * 100_000))]
    with unchanged(), TestClient(small) as client:
        answer = client.post("/v1/datasets", files=files, headers=admin_headers)
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:expunge:problem:body-too-large"


@pytest.mark.parametrize(
    ("content_type", "content", "status", "slug"),
    [
        ("text/csv", b"id,label", 415, "unsupported-media-type"),
        ("multipart/mixed; boundary=x", b"", 415, "unsupported-media-type"),
        ("", b"", 415, "unsupported-media-type"),
        ("multipart/form-data", b"--line--", 422, "invalid-upload"),
        ("multipart/form-data; boundary=" + "x" * 300, b"--line--", 422, "invalid-upload"),
        ("multipart/form-data; boundary=line", b"", 400, "upload-cut-off"),
        ("multipart/form-data; boundary=line", b"--line--", 422, "invalid-upload"),
        ("Multipart/Form-Data; boundary=line", body(("a.csv", b""), metadata=b"{"), 422, "invalid-json"),
        ("multipart/form-data; boundary=line", body(("a.csv", b""), metadata=b"[]"), 422, "invalid-request"),
        ("multipart/form-data; boundary=line", body(("a.csv", b""), metadata=b"{}"), 422, "invalid-request"),
        ("multipart/form-data; boundary=line", body(("../a.csv", b"")), 422, "invalid-checkpoint"),
        ("multipart/form-data; boundary=line", body(("a.exe", b"")), 422, "invalid-data"),
        ("application/json", b"{", 422, "invalid-json"),
        ("application/json", b"[" * 100_000, 422, "invalid-json"),
        ("application/json", b"1" * 5000, 422, "invalid-json"),
        ("application/json", b'{"name": "a", "family": "classifier"}', 422, "invalid-request"),
        ("application/json", b'{"name": "a\\u0000", "family": "x", "uri": "/"}', 422, "invalid-request"),
        ("application/json", b" " * 10_000_000, 413, "body-too-large"),
    ],
)
def test_a_body_that_cannot_be_taken_is_a_problem_and_changes_nothing(
    client, admin_headers, unchanged, content_type, content, status, slug
):
    with unchanged():
        answer = client.post(
            "/v1/datasets", content=content, headers={**admin_headers, "Content-Type": content_type}
        )
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:expunge:problem:{slug}")
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_upload_brings_no_uri(registry, unchanged):
    with unchanged():
        answer = registry.post(
            "/v1/datasets", {"name": "a", "family": "classifier", "uri": "/x"}, {"a.csv": b""}
        )
    assert answer.status_code == 422
    assert "uri" in answer.json()["detail"]


def test_a_file_that_differs_from_its_announced_digest_is_refused(registry, unchanged):
    metadata = {"name": "a", "family": "classifier", "sha256": {"a.csv": "0" * 64}}
    with unchanged():
        answer = registry.post("/v1/datasets", metadata, {"a.csv": b"id,label\n"})
        missing = registry.post("/v1/datasets", metadata, {"b.csv": b"id,label\n"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:expunge:problem:digest-mismatch")
    assert "no such file" in missing.json()["detail"]
