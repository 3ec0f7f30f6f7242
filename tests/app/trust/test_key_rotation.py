import datetime as dt
import uuid

import pytest

from app.trust.keys import KeyNotUsableError, UnknownKeyError, create_key, revoke_key, rotate_key
from app.trust.scopes import Scope

NO_GRACE = dt.timedelta(0)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def session(runtime):
    with runtime.database.write() as session:
        yield session


def test_the_old_key_lives_on_through_its_grace(session):
    old, _ = create_key(session, name="ci", scopes=[Scope.ADMIN])
    rotate_key(session, old.id, grace=HOUR)
    assert old.revoked_at is None
    assert dt.timedelta(0) < old.expires_at - dt.datetime.now(dt.UTC) <= HOUR


def test_grace_never_lengthens_a_life(session):
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    old, _ = create_key(session, name="ci", scopes=[Scope.ADMIN], expires_at=soon)
    rotate_key(session, old.id, grace=HOUR)
    assert old.expires_at == soon


def test_the_successor_gets_the_same_lifetime(session):
    old, _ = create_key(
        session, name="ci", scopes=[Scope.ADMIN], expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(days=90)
    )
    new, _ = rotate_key(session, old.id, grace=NO_GRACE)
    assert new.expires_at - new.created_at == pytest.approx(
        dt.timedelta(days=90), abs=dt.timedelta(seconds=1)
    )


def test_an_ended_key_cannot_be_rotated(session):
    old, _ = create_key(session, name="ci", scopes=[Scope.ADMIN])
    revoke_key(session, old.id)
    with pytest.raises(KeyNotUsableError):
        rotate_key(session, old.id, grace=NO_GRACE)


def test_an_unknown_key_cannot_be_rotated(session):
    with pytest.raises(UnknownKeyError):
        rotate_key(session, uuid.uuid4(), grace=NO_GRACE)
