"""Scopes of API keys."""

import enum


class Scope(enum.StrEnum):
    """What a key may do. `admin` includes every other scope."""

    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    REQUESTS_READ = "requests:read"
    REQUESTS_WRITE = "requests:write"
    ADMIN = "admin"
