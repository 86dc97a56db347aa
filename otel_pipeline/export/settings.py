"""What can be said of the resource, of sampling and of where telemetry goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from otel_pipeline.settings import Variable, option

OnSigterm = Literal["default", "flush"]


@dataclass(frozen=True)
class ExportSettings:
    """Who this process is, what of its traces is recorded, and where they go."""

    service_name: str | None = option(
        "service_name",
        "text",
        None,
        "`service.name`. Without it the program's file name.",
        variable=Variable("OTEL_SERVICE_NAME", label="service.name"),
        argument="service_name",
    )
    service_version: str | None = option(
        "service_version",
        "text",
        None,
        "`service.version`.",
        variable=Variable("OTEL_RESOURCE_ATTRIBUTES", label="service.version"),
        argument="service_version",
    )
    sample_rate: float | None = option(
        "sample_rate",
        "rate",
        None,
        "Share of new traces that is recorded (`parentbased_traceidratio`); 1 unless said otherwise.",
        variable=Variable("OTEL_TRACES_SAMPLER", is_read_elsewhere=True),
        argument="sample_rate",
    )
    """The share of new traces that is recorded; None where nobody has said it, or `OTEL_TRACES_SAMPLER` decides."""
    endpoint: str | None = option(
        "endpoint",
        "URL",
        None,
        "OTLP endpoint. Without it: in local a collector here, else lines; in test lines; elsewhere localhost:4318.",
        variable="OTEL_EXPORTER_OTLP_ENDPOINT",
        argument="endpoint",
    )
    metric_interval_s: float = option(
        "export.metric_interval",
        "duration",
        15.0,
        "How often metrics leave the process.",
        variable=Variable("OTEL_METRIC_EXPORT_INTERVAL", unit="ms"),
    )
    spool_bytes: int = option(
        "export.spool",
        "size",
        256_000_000,
        "Up to how much telemetry of a process waits on the disk until it is taken (OTLP http/protobuf); then the "
        "oldest is dropped. off: what is not taken at once is lost.",
        per_environment={"local": 64_000_000, "test": 64_000_000},
    )
    spool_age_s: float = option(
        "export.spool_age",
        "duration",
        86_400.0,
        "For how long it waits; then it is dropped.",
    )
    on_sigterm: OnSigterm = option(
        "export.on_sigterm",
        OnSigterm,
        "default",
        "What SIGTERM does where the application leaves it at its default: flush hands over for at most 0.5 s, then "
        "the signal ends the process as before. Children of multiprocessing always do.",
    )
