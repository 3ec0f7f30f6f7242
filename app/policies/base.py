"""The policy that the service starts with: the defaults, and a file of its administrator's over them.

    [default]
    reference_seconds = 3600

    [families.classifier]
    deep = true

    [models.digits]
    allow_retrain = false

The same as JSON: an object with the members `default`, `families` and `models`. Every part may be absent.
"""

import json
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.settings import Settings
from models.families import FAMILIES
from unlearning.audits.policy import AuditPolicy


class PolicyFileError(Exception):
    """The file that `EXPUNGE_POLICY_FILE` names cannot be used; the message says why."""


class Fields(AuditPolicy):
    """Some fields of a policy: `set_fields` are those that were given, all others are inherited."""

    model_config = ConfigDict(allow_inf_nan=False)  # beside what it inherits: JSON has no such numbers

    @property
    def set_fields(self) -> dict[str, Any]:
        """The fields that were given."""
        return self.model_dump(mode="json", exclude_unset=True)


class BasePolicy(BaseModel):
    """What the file says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Fields = Fields()
    families: Mapping[str, Fields] = {}
    models: Mapping[str, Fields] = {}


def base_policy(settings: Settings) -> BasePolicy:
    """Return the policy file's contents, read once per process.

    Raises:
        PolicyFileError: It cannot be read, or says something that no policy can.
    """
    return _read(settings.policy_file) if settings.policy_file is not None else BasePolicy()


@lru_cache
def _read(path: Path) -> BasePolicy:
    try:
        policy = BasePolicy.model_validate(_parse(path))
    except OSError as error:
        raise PolicyFileError(f"The policy file {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise PolicyFileError(f"The policy file {path} is wrong: {faults}.") from None
    unknown = sorted(set(policy.families) - set(FAMILIES))
    if unknown:
        raise PolicyFileError(
            f"The policy file {path} names families that there are not: {', '.join(unknown)}."
        )
    return policy


def _parse(path: Path) -> Any:
    text = path.read_bytes()
    try:
        match path.suffix:
            case ".toml":
                return tomllib.loads(text.decode())
            case ".json":
                return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(f"The policy file {path} cannot be parsed: {error}.") from error
    raise PolicyFileError(f"The policy file {path} must be .toml or .json.")
