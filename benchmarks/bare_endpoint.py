"""The yardsticks of `benchmarks.service`: one INSERT per request, and a plain `FileResponse`.

Run with `uvicorn benchmarks.bare_endpoint:app`; `BARE_DATABASE_URL` and `BARE_FILE` say where to write and
what to send. The endpoint takes the same body as `POST /v1/forget-requests` and stores it in one row, through
the same driver, pool and commit as the service.
"""

import os
import uuid
from typing import Any

from fastapi import FastAPI
from sqlalchemy import JSON, Column, MetaData, Table, Uuid, create_engine, insert
from starlette.responses import FileResponse

metadata = MetaData()
bare = Table("bare_requests", metadata, Column("id", Uuid, primary_key=True), Column("body", JSON))
engine = create_engine(os.environ["BARE_DATABASE_URL"], pool_size=10, max_overflow=10)
metadata.create_all(engine)
app = FastAPI()


@app.post("/bare", status_code=202)
def store(body: dict[str, Any]) -> dict[str, str]:
    """Insert one row."""
    row_id = uuid.uuid4()
    with engine.begin() as connection:
        connection.execute(insert(bare).values(id=row_id, body=body))
    return {"id": str(row_id)}


@app.get("/file")
def send() -> FileResponse:
    """Send the file as Starlette does it by itself."""
    return FileResponse(os.environ["BARE_FILE"])
