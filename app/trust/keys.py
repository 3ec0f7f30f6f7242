"""API keys: making, listing, rotating and revoking them."""

import datetime as dt
import hashlib
import secrets
import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.tables import ApiKey
from app.trust.scopes import Scope

PREFIX = "xp_"
SECRET_BYTES = 32
HINT_CHARACTERS = 9


class UnknownKeyError(Exception):
    """There is no API key with this id."""


class KeyNotUsableError(Exception):
    """The key was revoked or has expired: there is nothing left to rotate."""


def create_key(
    session: Session,
    *,
    name: str,
    scopes: Iterable[Scope],
    models: list[str] | None = None,
    expires_at: dt.datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; its secret is returned here and nowhere else, ever."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    key = ApiKey(
        name=name,
        hint=secret[:HINT_CHARACTERS],
        secret_hash=hashlib.sha256(secret.encode()).digest(),
        scopes=sorted({scope.value for scope in scopes}),
        models=models,
        created_at=dt.datetime.now(dt.UTC),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    return key, secret


def list_keys(session: Session) -> Sequence[ApiKey]:
    """Return every key, oldest first."""
    return session.scalars(select(ApiKey).order_by(ApiKey.created_at)).all()


def any_key(session: Session) -> bool:
    """Tell whether a key was ever made."""
    return session.execute(select(exists().where(ApiKey.id.is_not(None)))).scalar_one()


def revoke_key(session: Session, key_id: uuid.UUID) -> ApiKey:
    """Stop a key at once; revoking it again changes nothing.

    Raises:
        UnknownKeyError: There is no such key.
    """
    key = _get_key(session, key_id)
    if key.revoked_at is None:
        key.revoked_at = dt.datetime.now(dt.UTC)
    return key


def rotate_key(session: Session, key_id: uuid.UUID, *, grace: dt.timedelta) -> tuple[ApiKey, str]:
    """Make a successor with the same name, scopes, models and lifetime; the old key ends after `grace`.

    Raises:
        UnknownKeyError: There is no such key.
        KeyNotUsableError: It has ended already.
    """
    key = _get_key(session, key_id)
    now = dt.datetime.now(dt.UTC)
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise KeyNotUsableError(f"The API key {key_id} has ended already; make a new one.")
    lifetime = key.expires_at - key.created_at if key.expires_at is not None else None
    successor = create_key(
        session,
        name=key.name,
        scopes=[Scope(scope) for scope in key.scopes],
        models=key.models,
        expires_at=now + lifetime if lifetime is not None else None,
    )
    if grace:
        key.expires_at = min(key.expires_at or now + grace, now + grace)
    else:
        key.revoked_at = now
    return successor


def _get_key(session: Session, key_id: uuid.UUID) -> ApiKey:
    key = session.get(ApiKey, key_id)
    if key is None:
        raise UnknownKeyError(f"There is no API key {key_id}.")
    return key
