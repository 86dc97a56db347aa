"""The exporters of one destination, imported only when used: gRPC alone costs a quarter of a second."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricReader

from otel_pipeline import semconv
from otel_pipeline.export import attempt, causes, transports
from otel_pipeline.export.accounting import Account
from otel_pipeline.export.border import Border, Instead
from otel_pipeline.export.destination import is_loopback, reachable, server_of
from otel_pipeline.export.otlp_lines import LogLines, MetricLines, SpanLines
from otel_pipeline.export.spool.border import SpoolingBorder
from otel_pipeline.installed import entry_points

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.engine.totals import AttributeValue
    from otel_pipeline.export.collector_clock import Answers
    from otel_pipeline.export.destination import Destination, Signal
    from otel_pipeline.export.losses import Losses
    from otel_pipeline.export.otlp_lines import Lines
    from otel_pipeline.export.spool.sender import Sender

_LINES: dict[str, type] = {"traces": SpanLines, "metrics": MetricLines, "logs": LogLines}
_CLASSES = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter", "logs": "OTLPLogExporter"}
_PROTOCOLS = {"otlp": "", "otlp_proto_http": "http/protobuf", "otlp_proto_grpc": "grpc"}
"""OpenTelemetry's names of exporters to the protocol that they bring; "" where the variables say it."""
_CREDENTIALS = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_{}CREDENTIAL_PROVIDER"
_COMPONENTS = {"traces": "span", "metrics": "metric", "logs": "log"}
_MODULES = {"traces": "trace_exporter", "metrics": "metric_exporter", "logs": "_log_exporter"}


def make(
    signal: Signal,
    destination: Destination,
    lines: Lines,
    answers: Answers,
    losses: Losses,
    problem: Callable[[str, str], None],
    sender: Sender | None = None,
    service: str = "",
) -> list[tuple[str, Any]]:
    """Return the exporters by name, each behind a border; one that cannot be made is a problem, and left out.

    With a `sender`, what goes by OTLP over HTTP is spooled, and sent by it.

    A reader that pulls, as Prometheus' is, has no border: nothing is handed over.
    """
    made: list[tuple[str, Any]] = []
    for name in destination.exporters:
        try:
            made.append((name, _make(name, signal, destination, lines, answers, losses, problem, sender, service)))
        except Exception as error:
            problem(f"exporter.{signal}.{name}", f"the {signal} exporter {name!r} cannot be made: {_why(error)}")
    return made


def _make(
    name: str,
    signal: Signal,
    destination: Destination,
    lines: Lines,
    answers: Answers,
    losses: Losses,
    problem: Callable[[str, str], None],
    sender: Sender | None,
    service: str,
) -> Any:
    if name == "lines":
        account = Account(signal, str(lines.folder), component(_LINES[signal]))
        return Border(_LINES[signal](lines), account, losses, problem, says=causes.NOT_WRITTEN)
    if name in _PROTOCOLS:
        destination = replace(destination, protocol=_PROTOCOLS[name] or destination.protocol)
        attempt.watch_loggers()
        with attempt.attempting() as making:
            exporter, watched = _otlp(signal, destination, answers)
        attempt.say_again(making)
        attempt.watch_loggers()
        kind = "grpc" if destination.protocol == "grpc" else "http"
        named = component(f"otlp_{kind}_{_COMPONENTS[signal]}_exporter", destination.endpoint)
        instead = None
        if destination.lines_when_refused:
            words = f"they are written as OTLP JSON lines in {lines.folder}"
            instead = Instead(_LINES[signal](lines), words, partial(reachable, destination.endpoint))
        account = Account(signal, destination.base, named, component(_LINES[signal]))
        endpoint = str(getattr(exporter, "endpoint", "") or getattr(exporter, "_endpoint", "") or destination.endpoint)
        transport = getattr(exporter, "transport", None)
        if sender is not None and transport is not None:
            return SpoolingBorder(
                exporter,
                account,
                losses,
                problem,
                sender=sender,
                transport=transport,
                endpoint=endpoint,
                service=service,
                instead=instead,
            )
        return Border(
            exporter,
            account,
            losses,
            problem,
            endpoint=endpoint,
            watched=watched,
            instead=instead,
        )
    found = list(entry_points(f"opentelemetry_{signal}_exporter").select(name=name))
    if not found:
        raise LookupError(f"no exporter of this name is installed; OTEL_{signal.upper()}_EXPORTER names it")
    exporter = found[0].load()()
    return (
        exporter
        if isinstance(exporter, MetricReader)
        else Border(exporter, Account(signal, name, component(type(exporter))), losses, problem)
    )


def _why(error: Exception) -> str:
    """Return what was raised; its text may quote an address with a password."""
    return type(error).__name__ if "@" in str(error) else f"{type(error).__name__}: {error}"


def component(kind: str | type, endpoint: str = "") -> Mapping[str, AttributeValue]:
    """Return the attributes that name an exporter in metrics: its type, and the server that it connects to."""
    named = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    found: dict[str, AttributeValue] = {
        semconv.OTEL_COMPONENT_TYPE: named,
        semconv.OTEL_COMPONENT_NAME: f"{named}/0",
    }
    host, port = server_of(endpoint)
    if host:
        found[semconv.SERVER_ADDRESS] = host
        if port:
            found[semconv.SERVER_PORT] = port
    return found


def _otlp(signal: Signal, destination: Destination, answers: Answers) -> tuple[Any, bool]:
    """Return the exporter, and whether each of its requests is seen where it is one of the SDK's."""
    if destination.protocol != "grpc" and not _has_session(signal):
        from otel_pipeline.export.otlp import exporters, variables

        endpoint = destination.given or variables.address(signal)
        settings = variables.read(signal, endpoint, loopback=is_loopback(endpoint))
        return exporters.make(signal, settings, answers), False
    options: dict[str, Any] = {} if destination.given is None else {"endpoint": destination.given}
    kind = "grpc" if destination.protocol == "grpc" else "http"
    module = import_module(f"opentelemetry.exporter.otlp.proto.{kind}.{_MODULES[signal]}")
    exporter = getattr(module, _CLASSES[signal])(**options)
    return exporter, kind == "grpc" and transports.watch_calls(exporter)


def _has_session(signal: Signal) -> bool:
    """Tell whether the application has a credential provider: its `requests` session needs the SDK's exporter."""
    return any(os.environ.get(_CREDENTIALS.format(kind)) for kind in ("", f"{signal.upper()}_"))
