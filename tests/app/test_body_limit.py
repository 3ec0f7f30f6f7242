import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from app.body_limit import BodyLimit, expect_upload


@pytest.fixture
def client():
    app = FastAPI()
    app.add_middleware(BodyLimit, max_body_bytes=100, max_upload_bytes=1000)

    @app.post("/")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.post("/uploads")
    async def upload(request: Request) -> int:
        expect_upload(request)
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


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
def test_an_endpoint_that_expects_an_upload_has_the_limit_of_uploads(client, size, status):
    assert client.post("/uploads", content=b"x" * size).status_code == status


def test_a_body_that_only_calls_itself_an_upload_keeps_the_small_limit(client):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/", content=b"x" * 101, headers=headers).status_code == 413
