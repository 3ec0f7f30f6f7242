"""One HTTP call: who makes it, in which transaction, under which idempotency key.

Endpoints open their transaction here and nowhere else, so a call commits once, before its answer is sent.
Every call asks the database for its key, in that transaction or (where a call only appends rows, on PostgreSQL)
in the statement before: a revoked key stops at once.
"""

import datetime as dt
import hashlib
import hmac
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import Select, bindparam, select, true
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app.bulk_insert import insert_rows
from app.database import connection_of
from app.errors import ServiceError
from app.runtime import Runtime
from app.tables import ApiKey, Base, IdempotencyRecord
from app.trust.scopes import Scope
from models.errors import ModelsError
from unlearning.errors import UnlearningError

T = TypeVar("T")

bearer = HTTPBearer(auto_error=False, description="An API key made by `expunge keys create`.")


KEYS = ApiKey.__table__
KEY_COLUMNS = [KEYS.c[name] for name in ("id", "secret_hash", "scopes", "models", "expires_at", "revoked_at")]
KEY_BY_HASH = select(*KEY_COLUMNS).where(KEYS.c.secret_hash == bindparam("digest"))
"""Every call asks this: from the bare table, as the ORM's share of it would be felt."""


class Lookup:
    """A query for at most one row that a call needs as surely as its key: both are asked in one round trip."""

    def __init__(self, query: Select[Any]) -> None:
        found = query.subquery("found")
        columns = [column.label(f"found_{column.key}") for column in found.c]
        self.with_key = KEY_BY_HASH.add_columns(*columns).outerjoin_from(KEYS, found, true())


class KeyRefusedError(ServiceError):
    """No key, or one that is unknown, expired or revoked: the answer never says which."""

    status, slug, title = 401, "key-refused", "API key refused"

    def __init__(self) -> None:
        super().__init__("Give a valid API key as 'Authorization: Bearer xp_…'.")
        self.headers["WWW-Authenticate"] = "Bearer"


class ScopeMissingError(ServiceError):
    """The key is good, but not for this."""

    status, slug, title = 403, "scope-missing", "Scope missing"

    def __init__(self, scope: Scope, model: str | None = None) -> None:
        where = f" for the model {model!r}" if model is not None else ""
        super().__init__(f"The API key lacks the scope {scope.value!r}{where}.", scope=scope.value)


class IdempotencyConflictError(ServiceError):
    """A key was used again for something else."""

    status, slug, title = 422, "idempotency-key-reused", "Idempotency key reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The Idempotency-Key {key!r} was first used for another request; use a new key for a new request."
        )


@dataclass(frozen=True)
class Caller:
    """The API key behind a call."""

    key_id: uuid.UUID
    scopes: frozenset[Scope]
    models: frozenset[str] | None

    def require(self, scope: Scope, model: str | None = None) -> None:
        """Refuse unless the key holds `scope`, and for `model` if one is named.

        Raises:
            ScopeMissingError: It does not.
        """
        if Scope.ADMIN not in self.scopes and scope not in self.scopes:
            raise ScopeMissingError(scope)
        if model is not None and self.models is not None and model not in self.models:
            raise ScopeMissingError(scope, model)


@dataclass(frozen=True)
class Work:
    """What a service function needs of the call it serves."""

    session: Session
    caller: Caller
    runtime: Runtime
    now: dt.datetime
    found: Sequence[Any] | None = None
    """The row of the call's lookup, None where there is none."""
    rows: list[Base] = field(default_factory=list)
    """New rows that nothing in the call reads back: inserted together when the effect is done."""


@dataclass(frozen=True)
class Answer:
    """What a POST came to: stored under its idempotency key, so its body never holds personal data."""

    body: BaseModel
    status: int
    location: str | None = None
    retry_after: int | None = None


class Call:
    """Access to transactions for one HTTP call."""

    def __init__(
        self, runtime: Runtime, token: str | None, idempotency_key: str | None, request_hash: bytes
    ) -> None:
        self.runtime = runtime
        self._token = token
        self._idempotency_key = idempotency_key
        self._request_hash = request_hash
        self._charged = False

    def authorize(self, scope: Scope, model: str | None = None) -> None:
        """Refuse the call unless its key holds `scope`, before anything is read of a long body.

        Raises:
            KeyRefusedError: The key is not valid.
            ScopeMissingError: It is not for this.
        """
        with self.read(scope) as work:
            work.caller.require(scope, model)

    def cover(self, content: bytes) -> None:
        """Let the idempotency key stand for `content` too: what identifies a body that went to disk."""
        self._request_hash = hashlib.sha256(self._request_hash + content).digest()

    @contextmanager
    def read(self, scope: Scope) -> Iterator[Work]:
        """Open a reading transaction for a caller that holds `scope`."""
        with self.runtime.database.read() as session:
            yield self._work(session, scope)

    def change(self, scope: Scope, effect: Callable[[Work], T]) -> T:
        """Run `effect` in one writing transaction: for the methods that HTTP itself calls idempotent."""
        with self.runtime.database.write() as session:
            work = self._work(session, scope)
            result = effect(work)
            if work.rows:
                insert_rows(session, work.rows)
            return result

    def post(
        self,
        scope: Scope,
        effect: Callable[[Work], Answer],
        lookup: Lookup | None = None,
        *,
        appends: bool = False,
        **values: object,
    ) -> Response:
        """Run `effect` in one writing transaction, at most once per idempotency key.

        The same key and request: the first answer again. The same key and another request: 422. A key is only
        looked up once its call has failed, since a call that repeats another one fails for certain: on the
        first one's record if on nothing else.

        Args:
            scope: What the caller's key must hold.
            effect: What the call is about.
            lookup: A query whose row the effect finds in `Work.found`.
            appends: The effect only reads and fills `Work.rows`; this is much faster on PostgreSQL.
            **values: The lookup's parameters.
        """
        database = self.runtime.database
        try:
            with database.append() if appends else database.write() as session:
                work = self._work(session, scope, lookup, values)
                answer = effect(work)
                body = answer.body.model_dump(mode="json")
                rows = [*work.rows, *self._record(work, answer, body)]
                if rows:
                    insert_rows(session, rows)
        except (IntegrityError, ServiceError, ModelsError, UnlearningError):
            first = self._replay(scope)
            if first is None:
                raise
            return first
        return _response(answer.status, body, answer.location, answer.retry_after)

    def _replay(self, scope: Scope) -> Response | None:
        if self._token is None or self._idempotency_key is None:
            return None
        with self.read(scope) as work:
            return self.first_answer(work)

    def _work(
        self,
        session: Session,
        scope: Scope,
        lookup: Lookup | None = None,
        values: Mapping[str, object] = MappingProxyType({}),
    ) -> Work:
        now = dt.datetime.now(dt.UTC)
        caller, found = authenticate(session, self._token, now, lookup, values)
        if not self._charged:  # one call spends one token, however many transactions it takes
            self.runtime.rate_limiter.spend(caller.key_id)
            self._charged = True
        caller.require(scope)
        return Work(session, caller, self.runtime, now, found)

    def first_answer(self, work: Work) -> Response | None:
        """Return what was answered the first time under this idempotency key, None the first time.

        `post` asks by itself; a call with long preparations asks before them as well.

        Raises:
            IdempotencyConflictError: The key was used for another request.
        """
        if self._idempotency_key is None:
            return None
        record = work.session.get(IdempotencyRecord, (work.caller.key_id, self._idempotency_key))
        if record is None:
            return None
        if not hmac.compare_digest(record.request_hash, self._request_hash):
            raise IdempotencyConflictError(self._idempotency_key)
        response = _response(record.status_code, record.body, record.location, None)
        response.headers["Idempotent-Replayed"] = "true"
        return response

    def _record(self, work: Work, answer: Answer, body: dict[str, object]) -> list[IdempotencyRecord]:
        if self._idempotency_key is None:
            return []
        record = IdempotencyRecord(
            api_key_id=work.caller.key_id,
            key=self._idempotency_key,
            request_hash=self._request_hash,
            status_code=answer.status,
            location=answer.location,
            body=body,
            created_at=work.now,
        )
        return [record]


def authenticate(
    session: Session,
    token: str | None,
    now: dt.datetime,
    lookup: Lookup | None = None,
    values: Mapping[str, object] = MappingProxyType({}),
) -> tuple[Caller, Sequence[Any] | None]:
    """Return the caller behind a key, and what was looked up along with it.

    Raises:
        KeyRefusedError: The key is absent, unknown, expired or revoked.
    """
    if token is None:
        raise KeyRefusedError
    digest = hashlib.sha256(token.encode()).digest()
    query = lookup.with_key if lookup is not None else KEY_BY_HASH
    key = connection_of(session).execute(query, {**values, "digest": digest}).one_or_none()
    if key is None or not hmac.compare_digest(key.secret_hash, digest):
        raise KeyRefusedError
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise KeyRefusedError
    caller = Caller(
        key.id,
        frozenset(Scope(scope) for scope in key.scopes),
        frozenset(key.models) if key.models is not None else None,
    )
    found = key[len(KEY_COLUMNS) :]
    return caller, found if any(value is not None for value in found) else None


def _response(status: int, body: object, location: str | None, retry_after: int | None) -> JSONResponse:
    response = JSONResponse(body, status_code=status)
    if location is not None:
        response.headers["Location"] = location
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a POST safely: the same key and body give the first answer again.",
    ),
]


async def _call(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    idempotency_key: IdempotencyKey = None,
) -> Call:
    content_type = request.headers.get("content-type", "").lower()
    # FastAPI has already read a JSON body and keeps it; an upload is hashed while it streams to disk.
    try:
        body = b"" if content_type.startswith("multipart/") else await request.body()
    except ClientDisconnect:
        raise HTTPException(
            400, "The body ended too early."
        ) from None  # the client is gone; nothing failed here
    fingerprint = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).digest()
    return Call(
        request.app.state.runtime,
        credentials.credentials if credentials is not None else None,
        idempotency_key,
        fingerprint,
    )


CallDep = Annotated[Call, Depends(_call)]
