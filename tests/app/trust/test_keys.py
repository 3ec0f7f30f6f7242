import datetime as dt
import uuid

import pytest
from sqlalchemy import select

from app.call import Caller, KeyRefusedError, ScopeMissingError, authenticate
from app.tables import ApiKey
from app.trust.keys import PREFIX, UnknownKeyError, any_key, create_key, list_keys, revoke_key
from app.trust.scopes import Scope

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def session(runtime):
    with runtime.database.write() as session:
        yield session


def test_a_key_has_256_random_bits_and_only_its_hash_is_stored(session):
    key, secret = create_key(session, name="a", scopes=[Scope.MODELS_READ])
    assert secret.startswith(PREFIX)
    assert len(secret) - len(PREFIX) >= 43  # 256 bits in base 64
    stored = session.execute(select(ApiKey.__table__)).mappings().one()
    assert secret not in repr(dict(stored))
    assert authenticate(session, secret, NOW)[0].key_id == key.id


@pytest.mark.parametrize("token", [None, "", "xp_wrong", "Bearer xp_"])
def test_an_absent_or_unknown_key_is_refused(session, token):
    create_key(session, name="a", scopes=[])
    with pytest.raises(KeyRefusedError):
        authenticate(session, token, NOW)


def test_an_expired_key_is_refused(session):
    _, secret = create_key(session, name="a", scopes=[], expires_at=NOW + dt.timedelta(hours=1))
    authenticate(session, secret, NOW)
    with pytest.raises(KeyRefusedError):
        authenticate(session, secret, NOW + dt.timedelta(hours=1))


def test_a_revoked_key_is_refused_and_stays_listed(session):
    key, secret = create_key(session, name="a", scopes=[])
    revoke_key(session, key.id)
    session.flush()
    with pytest.raises(KeyRefusedError):
        authenticate(session, secret, NOW)
    assert [listed.id for listed in list_keys(session)] == [key.id]


def test_an_unknown_key_cannot_be_revoked(session):
    with pytest.raises(UnknownKeyError):
        revoke_key(session, uuid.uuid4())


def test_any_key_tells_an_empty_database(session):
    assert not any_key(session)
    create_key(session, name="a", scopes=[])
    assert any_key(session)


def caller(*scopes: Scope, models: frozenset[str] | None = None) -> Caller:
    return Caller(uuid.uuid4(), frozenset(scopes), models)


def test_a_scope_is_needed_and_admin_has_every_scope():
    caller(Scope.REQUESTS_READ).require(Scope.REQUESTS_READ)
    caller(Scope.ADMIN).require(Scope.REQUESTS_READ)
    with pytest.raises(ScopeMissingError):
        caller(Scope.REQUESTS_READ).require(Scope.REQUESTS_WRITE)


def test_a_key_limited_to_some_models_is_refused_for_others():
    limited = caller(Scope.MODELS_READ, models=frozenset({"mine"}))
    limited.require(Scope.MODELS_READ, "mine")
    with pytest.raises(ScopeMissingError, match="'theirs'"):
        limited.require(Scope.MODELS_READ, "theirs")
