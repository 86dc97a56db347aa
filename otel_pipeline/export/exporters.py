"""The exporters of one destination, imported only when used: gRPC alone costs a quarter of a second."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from otel_pipeline.export import collector_clock
from otel_pipeline.export.destination import is_loopback, reachable
from otel_pipeline.export.otlp_lines import LogLines, MetricLines, SpanLines

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.collector_clock import Answers
    from otel_pipeline.export.destination import Destination, Signal
    from otel_pipeline.export.otlp_lines import Lines

_LINES: dict[str, Callable[[Lines], Any]] = {"traces": SpanLines, "metrics": MetricLines, "logs": LogLines}
_CLASSES = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter", "logs": "OTLPLogExporter"}
_MODULES = {"traces": "trace_exporter", "metrics": "metric_exporter", "logs": "_log_exporter"}


def make(
    signal: Signal, destination: Destination, lines: Lines, answers: Answers, problem: Callable[[str, str], None]
) -> list[tuple[str, Any]]:
    """Make the exporters, each with its name; one that cannot be made is a problem, and left out."""
    made: list[tuple[str, Any]] = []
    for name in destination.exporters:
        try:
            made.append((name, _make(name, signal, destination, lines, answers, problem)))
        except Exception as error:
            problem(f"exporter.{signal}.{name}", f"the {signal} exporter {name!r} cannot be made: {error!r}")
    return made


def _make(
    name: str,
    signal: Signal,
    destination: Destination,
    lines: Lines,
    answers: Answers,
    problem: Callable[[str, str], None],
) -> Any:
    if name == "lines":
        return _LINES[signal](lines)
    if name == "otlp":
        exporter = _otlp(signal, destination, answers)
        if destination.lines_when_refused:
            return _either(signal, exporter, _LINES[signal](lines), destination.endpoint, problem)
        return exporter
    found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
    if not found:
        raise LookupError(f"no exporter of this name is installed; OTEL_{signal.upper()}_EXPORTER names it")
    return found[0].load()()


def _otlp(signal: Signal, destination: Destination, answers: Answers) -> Any:
    import importlib

    kind = "grpc" if destination.protocol == "grpc" else "http"
    module = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{kind}.{_MODULES[signal]}")
    exporter = getattr(module, _CLASSES[signal])
    options: dict[str, Any] = {} if destination.given is None else {"endpoint": destination.given}
    if kind == "http":
        # gRPC answers without a `Date`.
        session = collector_clock.session(signal, answers, loopback=is_loopback(destination.endpoint))
        if session is not None:
            options["session"] = session
    return exporter(**options)


def _either(signal: Signal, collector: Any, lines: Any, endpoint: str, problem: Callable[[str, str], None]) -> Any:
    """Make an exporter that hands over to the collector while that listens, else writes lines: nothing waits for it."""
    kind = type(lines)

    class Either(kind):  # type: ignore[valid-type,misc]
        """Asks who listens before each batch; on this machine that costs a connection."""

        def __init__(self) -> None:
            # What the SDK reads of an exporter, temporality for example, is the collector's.
            for name in ("_preferred_temporality", "_preferred_aggregation"):
                if hasattr(collector, name):
                    setattr(self, name, getattr(collector, name))

        def export(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
            """Export to the one or the other."""
            if reachable(endpoint):
                result = collector.export(batch, *args, **kwargs)
                if result.name == "SUCCESS":
                    return result
            problem(f"refused.{endpoint}", f"nobody listens at {endpoint}: {signal} are written as lines meanwhile")
            return lines.export(batch, *args, **kwargs)

        def shutdown(self, *args: Any, **kwargs: Any) -> None:
            """Stop the collector's exporter."""
            collector.shutdown(*args, **kwargs)

    return Either()
