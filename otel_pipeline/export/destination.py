"""Where telemetry goes: the variables and the configuration say it, or the environment's default does."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from otel_pipeline.export.settings import ExportSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.config.config import Config

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
DEFAULT_ENDPOINTS = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}
_PROBE_S = 0.1
_PROBE_ELSEWHERE_S = 0.5


@dataclass(frozen=True)
class Destination:
    """Where one signal goes."""

    exporters: tuple[str, ...]
    """Names as `OTEL_TRACES_EXPORTER` has them; `lines` is ours."""
    protocol: str
    endpoint: str
    """The OTLP endpoint, for people."""
    given: str | None
    """The endpoint to hand to the exporter; None lets it read the variables itself."""
    lines_when_refused: bool
    """Whether lines are written while nobody listens: in `local` and `test` nothing waits for a collector."""

    @property
    def base(self) -> str:
        """The endpoint's scheme, host and port, for people: signals that share them fail and recover together."""
        scheme, marker, rest = without_credentials(self.endpoint).rpartition("//")
        return f"{scheme}{marker}{rest.split('/')[0]}"

    def __str__(self) -> str:
        said = []
        for name in self.exporters:
            if name == "otlp":
                said.append(f"OTLP {self.protocol} to {without_credentials(self.endpoint)}")
            elif name == "lines":
                said.append("OTLP JSON lines")
            else:
                said.append(name)
        return ", ".join(said) or "nothing"


def decide(
    signal: Signal,
    config: Config,
    environ: Mapping[str, str] = os.environ,
    listening: Callable[[str], bool] | None = None,
) -> Destination:
    """Decide where a signal goes: a given endpoint; in `local` a collector on loopback, else lines; in `test` lines."""
    upper = signal.upper()
    near = config.resolved.is_local or config.resolved.is_test
    protocol = (
        environ.get(f"OTEL_EXPORTER_OTLP_{upper}_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    ).strip() or "http/protobuf"
    said = environ.get(f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    configured, source = config.of(ExportSettings).endpoint, config.source(ExportSettings, "endpoint").kind
    in_code = configured if configured and source != "environment" else None
    if in_code is not None and (source == "argument" or not said):
        endpoint, given = in_code, _of_signal(in_code, signal, protocol)
    else:
        endpoint, given = said or DEFAULT_ENDPOINTS.get(protocol, DEFAULT_ENDPOINTS["http/protobuf"]), None
    named = environ.get(f"OTEL_{upper}_EXPORTER", "").strip()
    if named:
        names = tuple(name.strip() for name in named.split(",") if name.strip() and name.strip() != "none")
        return Destination(names, protocol, endpoint, given, near and "otlp" in names)
    if said or in_code or not near:
        return Destination(("otlp",), protocol, endpoint, given, near)
    if config.resolved.is_local and (listening or reachable)(endpoint):
        return Destination(("otlp",), protocol, endpoint, given, lines_when_refused=True)
    return Destination(("lines",), protocol, endpoint, given, lines_when_refused=False)


def _of_signal(endpoint: str, signal: Signal, protocol: str) -> str:
    """Add the signal's path: OTLP over HTTP has one path per signal; gRPC has none."""
    if protocol == "grpc":
        return endpoint
    path = f"/v1/{signal}"
    return endpoint if endpoint.rstrip("/").endswith(path) else endpoint.rstrip("/") + path


def without_credentials(endpoint: str) -> str:
    """Return an address as it may be shown: without `user:password@`."""
    scheme, marker, rest = endpoint.rpartition("//")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{marker}{authority.rpartition('@')[2]}{slash}{path}"


def is_loopback(endpoint: str) -> bool:
    """Tell whether the endpoint is on this machine, and so never to be reached through a proxy."""
    host = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def server_of(endpoint: str) -> tuple[str, int | None]:
    """Return host and port of an endpoint; "" and None for what is none."""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        return parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None


def reachable(endpoint: str) -> bool:
    """Tell whether somebody listens there; takes at most 0.1 s on this machine, 0.5 s elsewhere."""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        timeout = _PROBE_S if is_loopback(endpoint) else _PROBE_ELSEWHERE_S
        with socket.create_connection((parts.hostname or "localhost", port), timeout):
            return True
    except (OSError, ValueError):
        return False
