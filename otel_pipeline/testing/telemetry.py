"""The `telemetry` fixture: everything that is recorded during a test, in memory, with counted ids and clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from opentelemetry import trace
from opentelemetry._logs import _internal as logs_api
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult

from otel_pipeline.export import compiled_spans
from otel_pipeline.export.data_age import DataAge
from otel_pipeline.export.processors import TakesRecorded
from otel_pipeline.testing.checker import check
from otel_pipeline.testing.records import log_record, metric_records, span_record
from otel_pipeline.testing.trees import tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.engine.spans import Spans
    from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, SpanRecord
    from otel_pipeline.pipeline import Pipeline

STEP_NS = 1_000_000
Lane: TypeAlias = Literal["native", "compatible", "sdk"]


class _CountedIds(IdGenerator):
    def __init__(self) -> None:
        self.traces = self.spans = 0

    def generate_trace_id(self) -> int:
        self.traces += 1
        return self.traces

    def generate_span_id(self) -> int:
        self.spans += 1
        return self.spans


class _OtherIds(RandomIdGenerator):
    """Random ones, but somebody else's class: only a tracer asks it."""


class _Chosen(Sampler):
    """Asks the sampler that the test has chosen: tracers keep the one they were made with."""

    def __init__(self) -> None:
        self.inner: Sampler = ALWAYS_ON

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return self.inner.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return self.inner.get_description()


class _Collected(SpanExporter):
    """Keeps ended spans; drops them between tests."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.spans is not None:
            self.spans.extend(spans)
        return SpanExportResult.SUCCESS


class _AtOnce(SimpleSpanProcessor, TakesRecorded):
    """A processor of ours, whose spans are seen as soon as they end."""

    def take(self, span: Any) -> None:
        """Take a span as production's processors do."""
        self.span_exporter.export((span,))


class Telemetry:
    """What was recorded since the test began. Nothing is exported; providers are put back when the test ends.

    The clock begins at the real time, kept in `start_ns`, and each look at it is 1 ms later: durations are exact, and
    so are ages of what the test has stamped relative to `start_ns`.

    One tracer provider serves all tests of a process, because tracers made while a module was imported stay with the
    provider they found first.
    """

    service_name = "test"
    destination = "memory"
    owned: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.ids = _CountedIds()
        self._resource = Resource({"service.name": "test", "deployment.environment.name": "test"})
        self._exporter = _Collected()
        self._sampler = _Chosen()
        self.tracer_provider: Any = TracerProvider(
            self._sampler, self._resource, id_generator=self.ids, shutdown_on_exit=False
        )
        self._another, self._ours = SimpleSpanProcessor(self._exporter), _AtOnce(self._exporter)
        self.tracer_provider.add_span_processor(self._another)
        self.production_lane: Lane = "native"
        """What `as_in_production` takes; docs/performance.md says what lanes are."""
        self._pipelines: list[Pipeline] = []
        self._made: list[Spans] = []
        self._stamps = False
        self._saved: list[tuple[Any, str, Any]] = []

    def instrument(self, service_name: str | None = "test", **arguments: Any) -> Pipeline:
        """Call `otel_pipeline.instrument()` on these providers; it is undone when the test ends."""
        from otel_pipeline.pipeline import instrument

        pipeline = instrument(service_name, _providers=self, **arguments)
        self._pipelines.append(pipeline)
        return pipeline

    def sample(self, sampler: Sampler) -> None:
        """Sample with this one until the test ends; everything is recorded otherwise."""
        self._sampler.inner = sampler
        if self.tracer_provider.sampler is not self._sampler:
            self.tracer_provider.sampler = ParentBased(sampler)

    def real_time(self) -> None:
        """Use the machine's clocks until the test ends: for ages of what a broker has stamped."""
        self._real_time = True

    def as_in_production(self) -> None:
        """Use random ids, a plain sampler and a processor of ours until the test ends; call it before `instrument`.

        Spans are then made, and handed over, as they are outside of tests: in the native lane, or in `production_lane`.
        """
        if self.production_lane == "native":
            self._replace(self._another, self._ours)
        self.tracer_provider.id_generator = _OtherIds() if self.production_lane == "sdk" else RandomIdGenerator()
        self.tracer_provider.sampler = ParentBased(ALWAYS_ON)
        self._forget_tracers()

    @property
    def lanes(self) -> set[str]:
        """The lanes that the spans of this test's pipelines take now."""
        return {made.lane for made in self._made}

    def _replace(self, processor: SpanProcessor, by: SpanProcessor) -> None:
        every: Any = self.tracer_provider._active_span_processor
        every._span_processors = tuple(by if each is processor else each for each in every._span_processors)

    def spans(self) -> list[SpanRecord]:
        """Return the ended spans, in the order of their end."""
        return [span_record(span) for span in self._exporter.spans or ()]

    def metrics(self) -> list[MetricRecord]:
        """Return all metrics, cumulative since the test began."""
        return list(metric_records(self._reader.get_metrics_data()))

    def metric(self, name: str) -> MetricRecord | None:
        """Return one metric by its name; None when nothing has it."""
        return next((metric for metric in self.metrics() if metric.name == name), None)

    def logs(self) -> list[LogRecord]:
        """Return the log records."""
        return [log_record(data) for data in self._logs.get_finished_logs()]

    def tree(self, attributes: Sequence[str] = (), *, links: bool = False) -> str:
        """Draw the spans as a text to compare with a literal; see `otel_pipeline.testing.trees.tree`."""
        return tree(self.spans(), attributes, links=links)

    def clear(self) -> None:
        """Forget the spans and logs so far."""
        self._exporter.spans = []
        self._logs.clear()

    def check(self) -> None:
        """Raise AssertionError with all findings of the checker."""
        findings = check(self.spans(), self.metrics())
        if findings:
            raise AssertionError("telemetry breaks the conventions:\n" + "\n".join(map(str, findings)))

    def begin(self) -> None:
        """Put these providers in, with everything at its start."""
        self.ids.traces = self.ids.spans = 0
        self._replace(self._ours, self._another)
        # The real time, or what a broker stamps would come from the future: no limit on an age would ever be reached.
        self.start_ns = self._now_ns = time.time_ns() // STEP_NS * STEP_NS
        self._real_time = False
        self._exporter.spans = []
        self._sampler.inner = ALWAYS_ON
        self.tracer_provider.sampler = self._sampler
        self.tracer_provider.id_generator = self.ids
        self._forget_tracers()
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader], resource=self._resource, shutdown_on_exit=False)
        exporter_class: Any = getattr(logs_export, "InMemoryLogRecordExporter", None) or logs_export.InMemoryLogExporter
        self._logs: Any = exporter_class()
        self.logger_provider = logs_sdk.LoggerProvider(resource=self._resource, shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(logs_export.SimpleLogRecordProcessor(self._logs))
        for module, name, provider in (
            (trace, "_TRACER_PROVIDER", self.tracer_provider),
            (metrics_api, "_METER_PROVIDER", self.meter_provider),
            (logs_api, "_LOGGER_PROVIDER", self.logger_provider),
        ):
            once = getattr(module, f"{name}_SET_ONCE")
            self._saved += [(module, name, getattr(module, name)), (once, "_done", once._done)]
            setattr(module, name, provider)
            once._done = True

    def _forget_tracers(self) -> None:
        """Forget what newer SDKs keep: tracers by name, with the sampler and the ids of the test that made them."""
        getattr(self.tracer_provider, "_tracers", {}).clear()

    def end(self) -> None:
        """Undo everything; safe after a failed test."""
        for pipeline in self._pipelines:
            pipeline.uninstrument()
        self._pipelines.clear()
        self._made.clear()
        for owner, name, value in reversed(self._saved):
            setattr(owner, name, value)
        self._saved.clear()
        self._exporter.spans = None
        self.meter_provider.shutdown()

    def clock_ns(self) -> int:
        """Return the counted clock's time, ns: each look is 1 ms later."""
        if self._real_time:
            return time.time_ns()
        self._now_ns += STEP_NS
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Return the same clock's time, ns, for durations."""
        return time.perf_counter_ns() if self._real_time else self.clock_ns()

    def spans_of(self, name: str, version: str, schema_url: str) -> Spans:
        """Make spans of the provider's tracer."""
        tracer = self.tracer_provider.get_tracer(name, version, schema_url=schema_url)
        self._made.append(compiled_spans.make(self.tracer_provider, tracer))
        return self._made[-1]

    def stamp_data_age(self) -> None:
        """Let spans of gen_ai instrumentations say how old their data is, as a pipeline's own providers do."""
        if not self._stamps:
            self._stamps = True
            self.tracer_provider.add_span_processor(DataAge())

    def in_force(self) -> tuple[str, ...]:
        """Say whose providers are in force."""
        return ("traces, metrics and logs: the test's",)

    def flush(self, timeout_s: float) -> bool:
        """Return true: nothing waits."""
        del timeout_s
        return True

    def shutdown(self, timeout_s: float) -> bool:
        """Return true: there is nothing to stop."""
        del timeout_s
        return True


_telemetry: Telemetry | None = None


def shared() -> Telemetry:
    """Return the one instance of this process."""
    global _telemetry  # noqa: PLW0603 - see the class
    if _telemetry is None:
        _telemetry = Telemetry()
    return _telemetry
