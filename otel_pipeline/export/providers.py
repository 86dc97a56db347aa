"""Makes the configured providers: ours where there are none, the application's where it has them, now or later."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs, trace
from opentelemetry._logs import _internal as logs_api
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_pipeline import semconv
from otel_pipeline.config.state_folder import spool_folder, telemetry_folder
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.export import compiled_spans, exporters, metrics, resource, sampling, workers
from otel_pipeline.export import destination as destinations
from otel_pipeline.export.account_metrics import observe
from otel_pipeline.export.border import Border
from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.data_age import DataAge
from otel_pipeline.export.early import EarlyExport
from otel_pipeline.export.ending import Ending, sigterm
from otel_pipeline.export.forked import ForkedProviders, held_threads
from otel_pipeline.export.giving_way import give_way
from otel_pipeline.export.handing_over import HandingOver
from otel_pipeline.export.losses import Losses, kept
from otel_pipeline.export.otlp_lines import Lines
from otel_pipeline.export.processors import CountedLogs, CountedSpans
from otel_pipeline.export.settings import ExportSettings
from otel_pipeline.export.spool.border import SpoolingBorder
from otel_pipeline.export.spool.sender import Sender
from otel_pipeline.export.spool.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.trace import Span

    from otel_pipeline.config.config import Config
    from otel_pipeline.engine.span_shape import ShapedSpan, Values
    from otel_pipeline.engine.spans import RootDecision
    from otel_pipeline.engine.totals import Totals
    from otel_pipeline.engine.trace_context import Ids, LightSpan
    from otel_pipeline.export.accounting import Account
    from otel_pipeline.export.destination import Destination

LINES_DELAY_MS = 200
SPOOL_QUEUE = 16_384
"""Spans that end while the thread that encodes has no turn: 3 s at 5,000 a second; 50 MB at 3 kB each, in an overload.

A consumer that catches up with what a broker has kept for it ends more of them than a busy machine encodes meanwhile.
"""
SPOOL_LOG_QUEUE = 8_192
SPOOL_DELAY_MS = 100
"""How long what was recorded is in memory alone."""
DRAIN_S = 30.0
"""How long what waits is sent after the last work, where the process goes on for so long."""
EXIT_NEAR_S = 0.5
EXIT_S = 2.0


def set_up(
    config: Config,
    totals: Totals,
    *,
    problem: Callable[[str, str], None],
    count: Callable[[str], None] = lambda _place: None,
) -> Providers:
    """Make what is missing and connect the totals. What a bad exporter raises is not raised here.

    `problem` is told once of what is wrong; `count` of the place where something of ours has failed, each time.
    Instrumenting again goes on with the providers of the first time, unless they were shut down.
    """
    global _made  # noqa: PLW0603 - OpenTelemetry has one set of providers a process
    if _made is not None and _made.owned and not _made.stopped:
        _made.connect(totals, problem)
    else:
        _made = Providers(config, totals, problem, _made, count)
    return _made


_made: Providers | None = None


class Providers:
    """The three providers in force, and how telemetry leaves through ours. Thread-safe; never raises."""

    def __init__(
        self,
        config: Config,
        totals: Totals,
        problem: Callable[[str, str], None],
        before: Providers | None = None,
        count: Callable[[str], None] = lambda _place: None,
    ) -> None:
        self.stopped: bool = False
        # Ours of an earlier time that were shut down are as good as none.
        self._dead = set(map(id, before._ours.values())) if before is not None and before.stopped else set()
        self.service_name = resource.service_name(config)
        self._config = config
        self._totals = totals
        self._problem = problem
        self._count = count
        self.answers = Answers()
        """What a Collector's answers say of its clock."""
        self._losses = Losses()
        self._borders: list[Border] = []
        self._lines = Lines(telemetry_folder(), self.service_name, problem)
        self._lines.count_removed = self._count_removed
        self._sender = self._make_sender()
        self._kept_is_said = False
        self._resource = resource.make(config)
        self._ours: dict[str, Any] = {}
        self._destinations: dict[str, Destination] = {}
        self._processors: list[Any] = []
        self._spans: list[FollowingSpans] = []
        self._readers: list[MetricReader] = []
        self._early = EarlyExport(self._readers_now, self._not_exported)
        with held_threads() as held:
            self.tracer_provider: Any = self._traces()
            self.meter_provider: Any = self._metrics()
            self.logger_provider: Any = self._logs()
        self._connection: Any = None
        self.connect(totals, problem)
        self._handing_over = HandingOver(self._flush, self._stop)
        self._forked = ForkedProviders(self._resource, self._ours, held)
        near = config.resolved.is_local or config.resolved.is_test
        self._ending = Ending(self._handing_over, EXIT_NEAR_S if near else EXIT_S) if self._ours else None
        if self._ending is not None:
            self._ending.left = self._say_what_is_lost
            self._take_sigterm()

    def _make_sender(self) -> Sender | None:
        settings = self._config.of(ExportSettings)
        if not settings.spool_bytes:
            return None
        spool = Spool(spool_folder(), self.service_name, settings.spool_bytes, settings.spool_age_s, self._problem)
        return Sender(spool, self._died)

    def _died(self, place: str) -> None:
        """Take note that a thread that exports had an exception that would have ended it."""
        self._count(place)
        self._problem(
            place, f"{place} would have ended with an exception, and goes on; otel_pipeline.sdk.errors counts"
        )

    def _take_sigterm(self) -> None:
        wanted = self._config.of(ExportSettings).on_sigterm == "flush"
        if wanted and not sigterm.chain(watched=False):
            self._problem(
                "sigterm",
                "export.on_sigterm: flush has no effect: SIGTERM is the application's already, or instrument() was not "
                "called in the main thread",
            )

    def connect(self, totals: Totals, problem: Callable[[str, str], None]) -> None:
        """Collect these totals from now on."""
        if self._connection is not None:
            self._connection.disconnect()
        self._totals, self._problem = totals, problem
        self._connection = metrics.connect(self.meter_provider, totals, problem=problem)
        observe(self.meter_provider, metrics.meter_of(self.meter_provider), self)

    def each_second(self, series: int) -> None:
        """Take note of how many series there are, and of what is being lost. From one thread; never blocks."""
        self._early.look(series)
        for border in self._borders:
            border.look()
        workers.start_again((*self._processors, *self._readers_now()), self._died)
        if self._sender is not None and self._sender.outlets:
            self._sender.wake()

    def _say_what_is_lost(self) -> None:
        """Say what has not arrived when the end comes, per destination, and what of it waits on the disk."""
        left: dict[str, list[Any]] = {}
        waiting: dict[str, list[Any]] = {}
        for border in self._borders:
            here, on_disk = border.not_arrived(), border.on_disk()
            left.setdefault(border.account.destination, []).extend(() if here is None else (here,))
            waiting.setdefault(border.account.destination, []).extend(() if on_disk is None else (on_disk,))
        for destination, found in left.items():
            self._losses.ended(destination, found)
        if self._sender is not None and not self._kept_is_said:
            self._kept_is_said = any(waiting.values())
            where = f"they wait in {self._sender.spool.own.path}, and the next start of {self.service_name} sends them"
            for destination, found in waiting.items():
                kept(destination, found, where)

    def accounts(self) -> list[Account]:
        """Return what became of telemetry on its way out, by signal and exporter."""
        return [border.account for border in self._borders]

    def _count_removed(self, signal: str, count: int) -> None:
        """Count what went with a file of lines."""
        account = next((each for each in self.accounts() if each.signal == signal), None)
        if account is not None:
            account.removed(count)

    @property
    def instance(self) -> str:
        """`service.instance.id` of this process."""
        return str(self._resource.attributes[semconv.SERVICE_INSTANCE_ID])

    @property
    def owned(self) -> frozenset[str]:
        """The signals whose providers we made."""
        return frozenset(self._ours)

    @property
    def destination(self) -> str:
        """Where telemetry goes, for people."""
        if not self._destinations:
            return "the application's own providers"
        said: dict[str, list[str]] = {}
        for signal, destination in self._destinations.items():
            text = str(destination).replace("OTLP JSON lines", f"OTLP JSON lines in {self._lines.folder}")
            said.setdefault(f"{text} ({destination.reason})", []).append(signal)
        if len(said) == 1:
            return next(iter(said))
        return "; ".join(f"{', '.join(signals)}: {text}" for text, signals in said.items())

    def in_force(self) -> tuple[str, ...]:
        """Say for each signal whose provider is in force, and which lane our spans take (docs/performance.md)."""
        found = [
            f"{signal}: " + ("ours" if signal in self._ours else "the application's") for signal in destinations.SIGNALS
        ]
        return (*found, *(f"spans: {spans.lane} lane" for spans in self._spans[-1:]))

    def spans_of(self, name: str, version: str, schema_url: str) -> FollowingSpans:
        """Make spans of the provider in force, also when the application sets another one later."""
        made = FollowingSpans(self.tracer_provider, name, version, schema_url)
        self._spans.append(made)
        return made

    def stamp_data_age(self) -> None:
        """Let spans of gen_ai instrumentations say how old their data is."""
        add = getattr(self.tracer_provider, "add_span_processor", None)
        if add is not None:
            add(DataAge())

    def wait_for_sends(self, open_now: Callable[[], bool]) -> None:
        """Wait, when the program ends, within the deadline for as long as messages are on their way."""
        if self._ending is not None:
            self._ending.sends_are_open = open_now

    def flush(self, timeout_s: float) -> bool:
        """Hand over what was recorded, within the time; false when that was not possible."""
        forks.notice()
        return self._handing_over.wait(self._handing_over.ask(), timeout_s)

    def shutdown(self, timeout_s: float) -> bool:
        """Hand over and stop what is ours, within the time; false when it did not end in time."""
        forks.notice()
        self.stopped = True
        sigterm.release()
        ended = self._handing_over.stop(timeout_s)
        self._say_what_is_lost()
        self._connection.disconnect()
        return ended

    def _flush(self) -> bool:
        flushed = []
        for provider in (self.tracer_provider, self.logger_provider, self.meter_provider):
            flush = getattr(provider, "force_flush", None)
            if flush is not None:
                try:
                    flushed.append(bool(flush()))
                except Exception:
                    flushed.append(False)
        return all(flushed)

    def _stop(self) -> None:
        """Do the last work: spans and logs first, metrics with their last values, then the exporters."""
        self._readers = []
        for signal in ("traces", "logs", "metrics"):
            provider = self._ours.get(signal)
            if provider is not None:
                try:
                    provider.shutdown()
                except Exception as error:
                    self._problem(f"shutdown.{signal}", f"{signal} could not be handed over: {error!r}")
        if self._sender is not None:
            self._sender.drain(DRAIN_S, patient=True)
            self._sender.stop()
            self._sender.spool.close()

    def _traces(self) -> Any:
        found = trace._TRACER_PROVIDER
        if found is not None and id(found) not in self._dead:
            return found
        sampler = sampling.make(self._config)
        made = TracerProvider(sampler, self._resource, shutdown_on_exit=False)
        sampling.keep_tracestate(made)
        for name, exporter in self._exporters("traces"):
            if name == "console":
                made.add_span_processor(SimpleSpanProcessor(exporter))
                continue
            self._processors.append(CountedSpans(exporter, **self._delay("traces", name, exporter)))
            made.add_span_processor(self._processors[-1])
        trace.set_tracer_provider(made)
        give_way(trace, "_TRACER_PROVIDER", self._traces_replaced, self._giving_way_failed)
        self._ours["traces"] = made
        return made

    def _metrics(self) -> Any:
        found = metrics_api._METER_PROVIDER
        if found is not None and id(found) not in self._dead:
            return found
        interval_ms = self._config.of(ExportSettings).metric_interval_s * 1000
        self._readers = [
            exporter
            if isinstance(exporter, MetricReader)
            else PeriodicExportingMetricReader(exporter, export_interval_millis=interval_ms)
            for _, exporter in self._exporters("metrics")
        ]
        made = MeterProvider(self._readers, self._resource, shutdown_on_exit=False)
        metrics_api.set_meter_provider(made)
        give_way(metrics_api, "_METER_PROVIDER", self._metrics_replaced, self._giving_way_failed)
        self._ours["metrics"] = made
        return made

    def _readers_now(self) -> Sequence[MetricReader]:
        """Return our readers, while they collect."""
        return self._readers if "metrics" in self._ours else ()

    def _not_exported(self, error: Exception) -> None:
        self._problem("early", f"new metrics wait for the next regular export: {type(error).__name__}")

    def _logs(self) -> Any:
        found = logs_api._LOGGER_PROVIDER
        if found is not None and id(found) not in self._dead:
            return found
        made = LoggerProvider(self._resource, shutdown_on_exit=False)
        for name, exporter in self._exporters("logs"):
            if name == "console":
                made.add_log_record_processor(logs_export.SimpleLogRecordProcessor(exporter))
                continue
            self._processors.append(CountedLogs(exporter, **self._delay("logs", name, exporter)))
            made.add_log_record_processor(self._processors[-1])
        _logs.set_logger_provider(made)
        give_way(logs_api, "_LOGGER_PROVIDER", self._logs_replaced, self._giving_way_failed)
        self._ours["logs"] = made
        return made

    def _exporters(self, signal: destinations.Signal) -> Sequence[tuple[str, Any]]:
        decided = destinations.decide(signal, self._config)
        if self._has_others():
            decided = destinations.left_to_others(decided)
        self._destinations[signal] = decided
        made = exporters.make(
            signal, decided, self._lines, self.answers, self._losses, self._problem, self._sender, self.service_name
        )
        self._borders += [exporter for _, exporter in made if isinstance(exporter, Border)]
        return made

    def _has_others(self) -> bool:
        """Tell whether the application has a provider of its own, for whichever signal."""
        found = (trace._TRACER_PROVIDER, metrics_api._METER_PROVIDER, logs_api._LOGGER_PROVIDER)
        ours = {id(each) for each in self._ours.values()}
        return any(each is not None and id(each) not in self._dead | ours for each in found)

    def _leave_to_others(self) -> None:
        """Stop exporting what nobody asked for: the application has set a provider of its own."""
        for signal, decided in list(self._destinations.items()):
            left = destinations.left_to_others(decided)
            if left is not decided:
                self._destinations[signal] = left
                for border in [each for each in self._borders if each.account.signal == signal]:
                    border.close()
                    self._borders.remove(border)

    def _delay(self, signal: str, name: str, exporter: Any) -> dict[str, Any]:
        """Return how long a processor gathers, and how much, where the SDK's own delay is too long.

        A spool's is short, so that little is lost with a process that is killed, unless the variable says otherwise.
        Lines cost little, and what was recorded is to be seen.
        """
        prefix = {"traces": "OTEL_BSP_", "logs": "OTEL_BLRP_"}[signal]
        if isinstance(exporter, SpoolingBorder):
            wanted = {
                "SCHEDULE_DELAY": SPOOL_DELAY_MS,
                "MAX_QUEUE_SIZE": SPOOL_QUEUE if signal == "traces" else SPOOL_LOG_QUEUE,
            }
            names = {"SCHEDULE_DELAY": "schedule_delay_millis", "MAX_QUEUE_SIZE": "max_queue_size"}
            return {names[each]: value for each, value in wanted.items() if not os.environ.get(prefix + each)}
        if name == "lines" or self._destinations[signal].lines_when_refused:
            return {"schedule_delay_millis": LINES_DELAY_MS}
        return {}

    def _giving_way_failed(self) -> None:
        self._count("providers")
        self._problem("providers", f"a provider that was set later cannot be followed: {sys.exc_info()[1]!r}")

    def _traces_replaced(self) -> None:
        self.tracer_provider = trace._TRACER_PROVIDER
        self._gone("traces")
        for spans in self._spans:
            spans.follow(self.tracer_provider)

    def _metrics_replaced(self) -> None:
        self.meter_provider = metrics_api._METER_PROVIDER
        self._gone("metrics")
        if not self.stopped:
            self.connect(self._totals, self._problem)

    def _logs_replaced(self) -> None:
        self.logger_provider = logs_api._LOGGER_PROVIDER
        self._gone("logs")

    def _gone(self, signal: str) -> None:
        """Shut our provider down: what it has recorded so far still leaves, and nothing new reaches it."""
        ours = self._ours.pop(signal, None)
        self._destinations.pop(signal, None)
        self._leave_to_others()
        if ours is not None and not self.stopped:
            threading.Thread(target=ours.shutdown, name="otel_pipeline.giving_way", daemon=True).start()


class FollowingSpans:
    """Spans of whichever provider is in force: its functions are replaced when another one comes."""

    dropped_ids: Callable[[Span | None], Ids | None]
    dropped: Callable[[Span | None], LightSpan | None]
    start: Callable[..., Span]
    end_all: Callable[[Iterable[tuple[ShapedSpan, Values, int]]], None]
    samples_root: RootDecision
    follows_parents: bool
    drops_unsampled: bool

    def __init__(self, provider: Any, name: str, version: str, schema_url: str) -> None:
        self._named = (name, version, schema_url)
        self.follow(provider)
        forks.add(self._look_again, Step.NAME)

    def _look_again(self) -> None:
        """Find, with the first span of a forked child, the resource that its tracer has then."""
        self.start = self._start_first

    def _start_first(self, *args: Any, **kwargs: Any) -> Span:
        self.follow(self._provider)
        return self.start(*args, **kwargs)

    def follow(self, provider: Any) -> None:
        """Use another provider from now on."""
        self._provider = provider
        name, version, schema_url = self._named
        spans = compiled_spans.make(provider, provider.get_tracer(name, version, schema_url=schema_url))
        self.dropped_ids, self.dropped, self.start = spans.dropped_ids, spans.dropped, spans.start
        self.end_all, self.drops_unsampled = spans.end_all, spans.drops_unsampled
        self.samples_root, self.follows_parents = spans.samples_root, spans.follows_parents
        self._made = spans

    @property
    def lane(self) -> str:
        """Which way spans take now: `native`, `compatible` or `sdk`."""
        return self._made.lane
