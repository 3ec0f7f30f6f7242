"""Settings of the service: the only place that reads the environment."""

import ipaddress
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.logs import LogFormat, LogLevel
from app.trust.log.notes import check_key_name

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


class Settings(BaseSettings):
    """Every setting, read from `EXPUNGE_…` environment variables or a `.env` file."""

    model_config = SettingsConfigDict(env_prefix="EXPUNGE_", env_file=".env", extra="ignore", frozen=True)

    database_url: str = Field(
        "sqlite:///.expunge/expunge.db",
        description="SQLAlchemy URL: `sqlite:///PATH` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.",
    )
    storage_url: str = Field(
        ".expunge/storage",
        description="Where checkpoints and data sets live: a directory or an fsspec URL such as `s3://bucket/prefix`.",
    )
    cache_dir: Path = Field(
        Path(".expunge/cache"),
        description="Local copies of remote snapshots and checkpoints, and uploads under way.",
    )
    import_roots: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated directories or fsspec URL prefixes that server-side imports may read. Empty: none.",
    )
    host: str = Field("127.0.0.1", description="Address the HTTP server listens on.")
    port: int = Field(
        8000, ge=0, le=65535, description="Port the HTTP server listens on; 0 picks a free one."
    )
    database_pool_size: int = Field(20, ge=1, description="Most database connections of one process.")
    max_body_bytes: int = Field(4 * MEBIBYTE, ge=1024, description="Largest JSON body accepted.")
    max_upload_bytes: int = Field(
        64 * GIBIBYTE, ge=1024, description="Largest upload accepted, all files together."
    )
    max_target_ids: int = Field(100_000, ge=1, description="Most ids one forget request may name.")
    max_event_streams: int = Field(
        200, ge=1, description="Most event streams one API process serves at once."
    )
    rate_limit_per_second: float = Field(
        2000.0,
        gt=0,
        description="Requests per second that one API key may make of one API process, sustained.",
    )
    rate_limit_burst: int = Field(4000, ge=1, description="Requests that one API key may make at once.")
    webhook_allowed_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated networks, such as `10.0.0.0/8`, that webhooks may call although they are not public.",
    )
    opendsr_domain: str | None = Field(
        None, min_length=1, description="Domain under which `/opendsr` is served; unset: it is not."
    )
    opendsr_certificate_file: Path | None = Field(
        None, description="PEM certificate of that domain; it vouches for OpenDSR answers and callbacks."
    )
    opendsr_key_file: Path | None = Field(None, description="PEM private key of that certificate.")
    lease_seconds: float = Field(30.0, gt=0, description="A worker that is silent for so long loses its job.")
    poll_seconds: float = Field(
        0.1, gt=0, description="Pause of an idle worker between looks at the database."
    )
    job_timeout_seconds: float = Field(
        6 * 3600.0, gt=0, description="A job that runs longer is killed and fails."
    )
    job_memory_bytes: int | None = Field(
        None, ge=64 * MEBIBYTE, description="Memory a job may allocate beyond its start; unset: no limit."
    )
    max_attempts: int = Field(
        3, ge=1, description="Times a request is tried when its worker or child process dies."
    )
    max_coalesced: int = Field(10_000, ge=1, description="Most forget requests served by one job.")
    on_inconclusive: str = Field(
        "escalate",
        pattern="^(escalate|review|accept)$",
        description="What an audit that could not decide leads to: the next method, a person, or publication.",
    )
    policy_file: Path | None = Field(
        None, description="TOML or JSON file with audit policies: by default, per family, per model."
    )
    target_retention_days: int = Field(
        30,
        ge=0,
        le=36_500,
        description="Days after a request's end until its target's ids are erased; 0: at the next sweep.",
    )
    predecessor_retention_days: int = Field(
        30,
        ge=0,
        le=36_500,
        description="Days after a version's quarantine until it is destroyed; 0: at the next sweep.",
    )
    sweep_seconds: float = Field(
        60.0, gt=0, description="Pause between two sweeps, which erase what has outlived its retention."
    )
    litter_seconds: float = Field(
        86_400.0, gt=0, description="Files that nothing names are deleted once they are so old."
    )
    signing_key_file: Path = Field(
        Path(".expunge/signing-key.pem"),
        description="Private keys that sign certificates, tree heads and checkpoints; every process needs this file.",
    )
    log_origin: str = Field(
        "expunge.localhost/log",
        description="Name of the transparency log in its tree heads, unique to it, such as `example.com/erasures`.",
    )
    keyring_dir: Path = Field(
        Path(".expunge/keyring"),
        description="Keys that backups are encrypted under; never part of a backup itself.",
    )

    log_format: LogFormat = Field(
        "auto", description="`json`, `console` for people, or `auto`: `console` on a terminal, else `json`."
    )
    log_level: LogLevel = Field(
        "info", description="Least important lines of the log: `debug`, `info`, `warning` or `error`."
    )
    access_log: bool = Field(
        True, description="Whether the API logs a line for each call: method, route, status, duration."
    )
    worker_metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of a worker's own Prometheus metrics; unset: none. Each worker of a machine needs its own.",
    )
    worker_metrics_host: str = Field(
        "127.0.0.1", description="Address that a worker's metrics are served on; they have no keys."
    )
    trace_endpoint: str | None = Field(
        None,
        description="OTLP/HTTP URL that traces go to, such as `http://127.0.0.1:4318/v1/traces`; "
        "`OTEL_EXPORTER_OTLP_ENDPOINT` switches them on too. Unset: none.",
    )
    max_open_requests_per_key: int = Field(
        50_000, ge=1, description="Most forget requests of one API key that may be pending or running."
    )
    max_open_requests_per_model: int = Field(
        100_000, ge=1, description="Most forget requests for one model that may be pending or running."
    )
    max_forgotten_share_per_day: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Share of a model's records that may be forgotten within 24 hours; "
        "requests beyond it wait for a person. 1: all of them.",
    )

    @field_validator("log_origin")
    @classmethod
    def _nameable(cls, value: str) -> str:
        return check_key_name(value)

    @field_validator("import_roots", "webhook_allowed_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value


def standard_trace_endpoint_is_set() -> bool:
    """Tell whether OpenTelemetry's own variables name an endpoint for traces."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def child_environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with these settings in it, for a child process that reads its own."""
    values = settings.model_dump()
    for name in ("import_roots", "webhook_allowed_networks"):
        values[name] = ",".join(values[name])
    named = {f"EXPUNGE_{name.upper()}": str(value) for name, value in values.items() if value is not None}
    return {**os.environ, **named}


@lru_cache
def get_settings() -> Settings:
    """Return the process's settings, read once."""
    return Settings()
