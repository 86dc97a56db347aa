"""Where telemetry goes: the variables and the configuration say it, or the environment's default does."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from otel_pipeline.config.credentials import without_credentials
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
    reason: str = ""
    """Why there, for people."""
    is_asked_for: bool = True
    """Whether somebody has named an endpoint or an exporter."""

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
    """Decide where a signal goes: to an endpoint that was given, else to the environment's default.

    That is in `local`, and where a person sits at a process of an unknown environment, a collector on loopback, else
    lines; in `test` lines; elsewhere a collector on loopback, which is tried on and on.
    """
    upper = signal.upper()
    near = config.resolved.is_local or config.resolved.is_test
    protocol = (
        environ.get(f"OTEL_EXPORTER_OTLP_{upper}_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    ).strip() or "http/protobuf"
    endpoint, given, reason = _endpoint(signal, config, environ, protocol)
    named = environ.get(f"OTEL_{upper}_EXPORTER", "").strip()
    if named:
        names = tuple(name.strip() for name in named.split(",") if name.strip() and name.strip() != "none")
        why = reason if reason and "otlp" in names else f"OTEL_{upper}_EXPORTER"
        return Destination(names, protocol, endpoint, given, near and "otlp" in names, why)
    if reason:
        return Destination(("otlp",), protocol, endpoint, given, near, reason)
    listens = partial(listening or reachable, endpoint)
    return _default(Destination(("otlp",), protocol, endpoint, given, lines_when_refused=False), config, listens)


def _endpoint(signal: Signal, config: Config, environ: Mapping[str, str], protocol: str) -> tuple[str, str | None, str]:
    """Return the endpoint, what of it is to be handed to the exporter, and who has given it; "" where nobody has."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    variable = next((name for name in names if environ.get(name)), None)
    configured, source = config.of(ExportSettings).endpoint, config.source(ExportSettings, "endpoint")
    in_code = configured if configured and source.kind != "environment" else None
    if in_code is not None and (source.kind == "argument" or variable is None):
        reason = "given as argument" if source.kind == "argument" else source.where or "the configuration file"
        return in_code, _of_signal(in_code, signal, protocol), reason
    if variable is not None:
        return environ[variable], None, variable
    return DEFAULT_ENDPOINTS.get(protocol, DEFAULT_ENDPOINTS["http/protobuf"]), None, ""


def _default(otlp: Destination, config: Config, listens: Callable[[], bool]) -> Destination:
    """Decide where nobody has said anything."""
    environment, none = config.resolved, "no endpoint was given"
    if environment.is_test:
        return replace(otlp, exporters=("lines",), reason=f"{none}, in `test`", is_asked_for=False)
    person = environment.person if environment.name is None else ""
    if not environment.is_local and not person:
        return replace(otlp, reason=f"{none}: OpenTelemetry's default", is_asked_for=False)
    if listens():
        reason = f"{none}, and a Collector listens there"
        return replace(otlp, lines_when_refused=True, reason=reason, is_asked_for=False)
    why = f"{none}, there is {person}," if person else f"{none},"
    reason = f"{why} and nobody listens at {otlp.endpoint}; `otel-pipeline show` reads them"
    return replace(otlp, exporters=("lines",), reason=reason, is_asked_for=False)


def left_to_others(destination: Destination) -> Destination:
    """Return what comes of it where the application has providers of its own: no exporter that nobody asked for."""
    if destination.is_asked_for:
        return destination
    reason = "the application has providers of its own, and no endpoint was given"
    return replace(destination, exporters=(), lines_when_refused=False, reason=reason)


def _of_signal(endpoint: str, signal: Signal, protocol: str) -> str:
    """Add the signal's path: OTLP over HTTP has one path per signal; gRPC has none."""
    if protocol == "grpc":
        return endpoint
    path = f"/v1/{signal}"
    return endpoint if endpoint.rstrip("/").endswith(path) else endpoint.rstrip("/") + path


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
