"""Claiming within limits: what the daily limit of a model does not let through is left to a person first."""

from app.runtime import Runtime
from app.worker.claims import Assignment, claim
from app.worker.daily_limit import Weighed, WeighingNeededError, weigh


def claim_within_limits(runtime: Runtime, owner: str) -> Assignment | None:
    """Claim a job; None where there is nothing to do, or another worker was faster."""
    weighed: Weighed | None = None
    while True:
        try:
            return claim(runtime.database, runtime.settings, owner, weighed)
        except WeighingNeededError as needed:
            # Either the next claim succeeds, or there are other requests by then: each round settles some.
            weighed = weigh(runtime, needed)
