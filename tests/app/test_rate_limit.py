import uuid

import pytest

from app.rate_limit import RateLimitedError, RateLimiter

KEY, OTHER = uuid.uuid4(), uuid.uuid4()


def test_a_burst_is_allowed_then_refused_with_the_time_to_wait():
    limiter = RateLimiter(per_second=0.5, burst=2)
    limiter.spend(KEY, now=0.0)
    limiter.spend(KEY, now=0.0)
    with pytest.raises(RateLimitedError) as refusal:
        limiter.spend(KEY, now=0.0)
    assert refusal.value.headers["Retry-After"] == "2"  # one token at half a token a second


def test_tokens_come_back_with_time_but_never_beyond_the_burst():
    limiter = RateLimiter(per_second=1.0, burst=2)
    for _ in range(2):
        limiter.spend(KEY, now=0.0)
    limiter.spend(KEY, now=1.0)
    for _ in range(2):
        limiter.spend(KEY, now=1000.0)
    with pytest.raises(RateLimitedError):
        limiter.spend(KEY, now=1000.0)


def test_keys_do_not_share_a_bucket():
    limiter = RateLimiter(per_second=1.0, burst=1)
    limiter.spend(KEY, now=0.0)
    limiter.spend(OTHER, now=0.0)
