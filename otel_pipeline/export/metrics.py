"""Totals to OpenTelemetry metrics, for whatever readers a provider has: nothing is called until somebody collects."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, NoOpMeter, Observation

from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.totals import Counter, Gauge, Histogram
from otel_pipeline.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import Histogram as OtelHistogram

    from otel_pipeline.engine.totals import Attributes, Instrument, Problem, Totals
    from otel_pipeline.export.histograms import CollectedHistograms

SCOPE = "otel_pipeline"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.45.0"

How: TypeAlias = Literal["collect", "record", "off"]


class _Observed:
    """What one observable instrument reads. The SDK keeps it for the provider's life; pipelines come and go."""

    def __init__(self) -> None:
        self.active: list[Counter | Gauge] = []
        # Those that were disconnected too: a sum that started anew would be a fall to a provider that goes on.
        self.counters: list[Counter] = []
        forks.add(self._begin_anew, Step.ZERO)

    def _begin_anew(self) -> None:
        self.counters = [each for each in self.active if isinstance(each, Counter)]

    def add(self, instrument: Counter | Gauge) -> None:
        self.active.append(instrument)
        if isinstance(instrument, Counter) and instrument not in self.counters:
            self.counters.append(instrument)

    def __call__(self, options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG002
        _thread.collecting = True
        try:
            sources = (self.counters or self.active) if self.active else []
            return [Observation(value, attributes) for source in sources[:] for attributes, value in source.points()]
        finally:
            _thread.collecting = False


class _Thread(threading.local):
    collecting = False


_thread = _Thread()


class Connection:
    """Totals on their way to one provider.

    `how` says how histograms get there: appended at collection; or (where the SDK is not as we know it) by a call of
    the SDK for each value; or not at all, because metrics are off.
    """

    def __init__(self, meter: Meter, problem: Problem) -> None:
        self.how: How = "off" if isinstance(meter, NoOpMeter) else "record"
        self._meter = meter
        self._problem = problem
        self._histograms: CollectedHistograms | None = None
        self._exemplars = False
        self._waiting: deque[Instrument] = deque()
        self._undo: list[Callable[[], object]] = []
        self._made: list[Any] = []
        forks.add(self._begin_anew, Step.ZERO)

    def _begin_anew(self) -> None:
        """Make the SDK forget, in a forked child, what it last read of our counters; readers of deltas subtract it."""
        for made in self._made:
            consumer = getattr(made, "_measurement_consumer", None)
            for storage in getattr(consumer, "_reader_storages", {}).values():
                storage._instrument_view_instrument_matches.pop(made, None)

    def disconnect(self) -> None:
        """Leave the provider as it was. The observable instruments that it made stay, and yield nothing."""
        while self._undo:
            self._undo.pop()()

    def collect_from(self, provider: MeterProvider) -> None:
        """Append histograms when this provider's readers collect, if its inside is as we know it."""
        from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider

        from otel_pipeline.export import histograms

        if isinstance(provider, SdkMeterProvider) and histograms.fits():
            self._histograms = histograms.CollectedHistograms(provider, self._problem, self.add_waiting)
            self._histograms.attach()
            self._exemplars = self._histograms.exemplars
            self._undo.append(self._histograms.detach)
            self.how = "collect"

    def follow(self, totals: Totals) -> None:
        """Connect every instrument, and those that are defined later."""
        self._undo.append(totals.on_new(self._add))
        totals.exemplars = self._exemplars

    def _add(self, instrument: Instrument) -> None:
        self._waiting.append(instrument)
        # The reading of a gauge may define an instrument; to register it takes the lock that collecting holds.
        if not _thread.collecting:
            self.add_waiting()

    def add_waiting(self) -> None:
        """Connect what was defined in the middle of a collection."""
        while True:
            try:
                instrument = self._waiting.popleft()
            except IndexError:
                return
            try:
                if isinstance(instrument, Histogram):
                    self._connect_histogram(instrument)
                else:
                    self._connect_observable(instrument)
            except Exception as error:
                self._problem(
                    f"metrics.{instrument.name}", f"{instrument.name} is not exported: {type(error).__name__}"
                )

    def _connect_histogram(self, histogram: Histogram) -> None:
        name, unit, description = histogram.name, histogram.unit, histogram.description
        made = self._meter.create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=list(histogram.bounds)
        )
        if self._histograms is not None:
            self._histograms.add(histogram, made)
        else:
            histogram.forward_to(partial(self._record, made))
            self._undo.append(lambda: histogram.forward_to(None))

    def _record(self, made: OtelHistogram, seconds: float, attributes: Attributes) -> None:
        try:
            made.record(seconds, attributes)
        except Exception as error:
            self._problem("metrics.record", f"a histogram's value is lost: {type(error).__name__}")

    def _connect_observable(self, instrument: Counter | Gauge) -> None:
        create = (
            self._meter.create_observable_counter
            if isinstance(instrument, Counter)
            else self._meter.create_observable_gauge
        )
        observed = _Observed()
        made = create(instrument.name, [observed], instrument.unit, instrument.description)
        # Defined before on this provider, it comes back as it was made then, with the callback of then.
        for callback in getattr(made, "_callbacks", ()):
            if isinstance(callback, _Observed):
                observed = callback
        observed.add(instrument)
        self._made.append(made)
        self._undo.append(lambda: observed.active.remove(instrument))


def meter_of(meter_provider: MeterProvider) -> Meter:
    """Return the meter of everything of ours."""
    return meter_provider.get_meter(SCOPE, VERSION, SCHEMA_URL)


def connect(meter_provider: MeterProvider, totals: Totals, *, problem: Problem) -> Connection:
    """Export these totals through this provider, until `disconnect()`."""
    connection = Connection(meter_of(meter_provider), problem)
    if connection.how == "off":
        return connection
    try:
        connection.collect_from(meter_provider)
    except Exception as error:
        problem("metrics.sdk", f"this OpenTelemetry SDK is not as otel_pipeline knows it: {type(error).__name__}")
    if connection.how == "record":
        problem("metrics.how", "histograms are recorded value by value, which is slower: the provider is not the SDK's")
    connection.follow(totals)
    return connection
