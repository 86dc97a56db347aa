"""What all operations share: settings, the seams to tracer, propagation and totals, and the standard metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from otel_pipeline import semconv
from otel_pipeline.engine.exemplars import Exemplars
from otel_pipeline.engine.failure import error_type
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.living import Living
from otel_pipeline.engine.pipeline_header import RIGHT_CLOCK
from otel_pipeline.engine.settings import EngineSettings
from otel_pipeline.engine.trust import ForeignTraces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.observer import CheckSent, Observe, ObserveFetches
    from otel_pipeline.engine.pipeline_header import OwnClock
    from otel_pipeline.engine.propagation import Propagation
    from otel_pipeline.engine.spans import Spans
    from otel_pipeline.engine.totals import AttributeValue, Totals

MAX_DESTINATIONS = 100
OTHER = "_other"
# `suppress_instrumentation()` of opentelemetry-instrumentation sets both the API's key and this plain one.
PLAIN_SUPPRESS_KEY = "suppress_instrumentation"


class Acknowledged(NamedTuple):
    """Where messages were sent."""

    system: str
    cluster: str | None
    destination: str


class Hook:
    """The application's function for recorded spans of one kind; it may be given later. What it raises is counted."""

    __slots__ = ("_place", "given")

    def __init__(self, given: Callable[[Any, Any], object] | None, place: Place) -> None:
        self.given = given
        """None where there is none: whoever has a span to show asks first."""
        self._place = place

    def __call__(self, span: Span, message: object) -> None:
        """Call the function."""
        given = self.given
        if given is not None and not self._place.off:
            try:
                given(span, message)
            except Exception:
                self._place.failed()


class Engine:
    """One per pipeline. Adapters ask it for functions; it owns spans, context, headers and totals of every message.

    Args:
        spans: the seam behind which spans can be replaced.
        propagation: reads and writes context on header pairs.
        totals: where operations are counted.
        clock_ns: wall clock, ns since the epoch.
        monotonic_ns: clock for durations, ns.
    """

    def __init__(
        self,
        *,
        spans: Spans,
        propagation: Propagation,
        totals: Totals,
        guard: Guard | None = None,
        settings: EngineSettings | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.spans = spans
        self.propagation = propagation
        self.totals = totals
        self.guard = guard or Guard()
        self.settings = settings or EngineSettings()
        self.clock_ns = clock_ns
        self.monotonic_ns = monotonic_ns
        self.active = True
        self.foreign_traces = ForeignTraces(self.settings.max_foreign_traces_per_second)
        self.exemplars = Exemplars(self.guard)
        self.observe: Observe | None = None
        """Makes the observer of a partition at its first message: the detectors of the data's health."""
        self.observe_fetches: ObserveFetches | None = None
        """The same for what brokers say of the end of a partition."""
        self.own_clock: OwnClock = RIGHT_CLOCK
        """Says whether what begins here has an origin by a wrong clock: flag C."""
        self.check_sent: CheckSent | None = None
        """Makes what looks at the values sent to a destination: (value, size in bytes, 0 when unknown, headers)."""
        self.forget_sent: Callable[[str], None] | None = None
        """Called with a destination that there is not: what was made to look at its values is dropped."""
        self.unreadable: Callable[[str, Literal["producer", "consumer"]], None] | None = None
        """Called with a destination and side of which a value could not be serialized or deserialized."""
        self.acknowledged: dict[Acknowledged, dict[int, int]] = {}
        """The newest acknowledged offset by partition."""
        self.given: list[Callable[[], Mapping[tuple[int, str, int], int]]] = []
        """Each tells the last number given to (producer id, destination, partition)."""
        self.queued: list[Callable[[], Mapping[str, int]]] = []
        """Each tells, by destination, what has no answer yet, of clients whose batches nobody can read."""
        self.producers: list[Callable[[], Iterable[Any]]] = []
        """Each tells of the producers of one library: `open_sends.ProducerNow`."""
        self.delivering: list[Callable[[], bool]] = []
        """Each tells whether clients are still delivering messages, by threads of their own."""
        self.hazards: set[tuple[str, str]] = set()
        """Client settings that can lose or reorder data: (hazard, client library)."""
        self.clients: dict[type, Any] = {}
        """How messages of each class are processed: `process.Client`."""
        self.consumers: Living[Any] = Living()
        """The consumers of all clients: `clients.Consumer`."""
        self._destinations: set[str] = set()
        self._hooks: dict[str, Hook] = {}
        self.sent = totals.counter(
            semconv.MESSAGING_CLIENT_SENT_MESSAGES,
            "{message}",
            "Number of messages producer attempted to send to the broker.",
        )
        self.consumed = totals.counter(
            semconv.MESSAGING_CLIENT_CONSUMED_MESSAGES,
            "{message}",
            "Number of messages that were delivered to the application.",
        )
        self.operation_duration = totals.histogram(
            semconv.MESSAGING_CLIENT_OPERATION_DURATION,
            "s",
            "Duration of messaging operation initiated by a producer or consumer client.",
            semconv.DURATION_BUCKETS_S,
        )
        self.process_duration = totals.histogram(
            semconv.MESSAGING_PROCESS_DURATION,
            "s",
            "Duration of processing operation.",
            semconv.DURATION_BUCKETS_S,
        )
        forks.add(self.begin_at_zero, Step.ZERO)

    def begin_at_zero(self) -> None:
        """Know nothing of any message, in a forked child: its parent tells of them."""
        self.acknowledged.clear()
        self.hazards.clear()
        self.consumers.clear()
        self._destinations.clear()

    def is_delivering(self) -> bool:
        """Tell whether messages are on their way that nobody has to wait for."""
        place = self.guard.place("delivering")
        for tell in () if place.off else self.delivering:
            try:
                if tell():
                    return True
            except Exception:
                place.failed()
        return False

    def suppressed(self, context: Context) -> bool:
        """Tell whether nothing is to be recorded: after `uninstrument()`, or inside `suppress_instrumentation()`."""
        return (
            not self.active
            or context.get(_SUPPRESS_INSTRUMENTATION_KEY) is True
            or context.get(PLAIN_SUPPRESS_KEY) is True
        )

    def hook(self, kind: str) -> Hook:
        """Return the hook for recorded spans of this kind, one for all who ask."""
        found = self._hooks.get(kind)
        if found is None:
            found = self._hooks[kind] = Hook(self.settings.hooks.get(kind), self.guard.place(f"hook.{kind}"))
        return found

    def metric_destination(self, destination: str) -> str:
        """Return the destination as a metric attribute: the first 100 by name, the rest as `_other`."""
        known = self._destinations
        if destination in known:
            return destination
        if len(known) >= MAX_DESTINATIONS:
            self.guard.problem(
                "destinations",
                f"more than {MAX_DESTINATIONS} destinations: metrics of the others are counted under {OTHER!r}",
            )
            return OTHER
        known.add(destination)
        return destination


def server_of(bootstrap: object) -> tuple[str, int | None] | None:
    """Read the first bootstrap server as the application gave it: `host:port`, several with commas, or a collection."""
    if not isinstance(bootstrap, str):
        try:
            # A set as well: contrib raises on one after the message was queued.
            bootstrap = next(iter(bootstrap), "")  # type: ignore[call-overload]
        except TypeError:
            return None
    # Who writes `user:password@` gets no connection; it must not stand on every span all the same.
    first = str(bootstrap).rpartition("@")[2].split(",", 1)[0].strip().rpartition("://")[2]
    if not first:
        return None
    host, colon, port = first.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        return first.strip("[]"), None
    return host.strip("[]"), int(port)


def client_attributes(system: str, server: tuple[str, int | None] | None) -> dict[str, AttributeValue]:
    """Return the attributes that every span and metric of one client carries."""
    attributes: dict[str, AttributeValue] = {semconv.MESSAGING_SYSTEM_NAME: system}
    if server is not None:
        attributes[semconv.SERVER_ADDRESS] = server[0]
        if server[1] is not None:
            attributes[semconv.SERVER_PORT] = server[1]
    return attributes


def with_error(attributes: Mapping[str, AttributeValue], error: BaseException) -> dict[str, AttributeValue]:
    """Return the attributes of a failed operation."""
    return {**attributes, semconv.ERROR_TYPE: error_type(error)}
