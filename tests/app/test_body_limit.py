import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from app.body_limit import BodyLimit


@pytest.fixture
def client():
    app = FastAPI()
    app.add_middleware(BodyLimit, max_body_bytes=100, max_upload_bytes=1000)

    @app.post("/")
    async def size(request: Request) -> int:
        return len(await request.body())

    return TestClient(app)


def chunks(total: int):
    """A body without Content-Length."""
    for _ in range(total // 10):
        yield b"x" * 10


@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 413)])
def test_a_declared_length_is_judged_before_the_body_is_read(client, size, status):
    assert client.post("/", content=b"x" * size).status_code == status


@pytest.mark.parametrize(("size", "status"), [(100, 200), (110, 413)])
def test_an_undeclared_length_is_counted_as_it_arrives(client, size, status):
    assert client.post("/", content=chunks(size)).status_code == status


def test_uploads_have_a_limit_of_their_own(client):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/", content=b"x" * 1000, headers=headers).status_code == 200
    assert client.post("/", content=b"x" * 1001, headers=headers).status_code == 413
