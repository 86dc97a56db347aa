"""The accounts of our exporters as metrics: OpenTelemetry's own names for what its SDK does, and one sum of losses.

For spans and log records: processed + queue size = started, exported without `error.type` + with it + in the exporter's
hands or in the spool = processed. For points of metrics: exported.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from opentelemetry.metrics import Observation

from otel_pipeline import semconv
from otel_pipeline.export.causes import SLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter

    from otel_pipeline.export.accounting import Account, Counts

_EXPORTED = {
    "traces": (semconv.OTEL_SDK_EXPORTER_SPAN_EXPORTED, "{span}"),
    "logs": (semconv.OTEL_SDK_EXPORTER_LOG_EXPORTED, "{log_record}"),
    "metrics": (semconv.OTEL_SDK_EXPORTER_METRIC_DATA_POINT_EXPORTED, "{data_point}"),
}
_PROCESSED = {
    "traces": (semconv.OTEL_SDK_PROCESSOR_SPAN_PROCESSED, "{span}"),
    "logs": (semconv.OTEL_SDK_PROCESSOR_LOG_PROCESSED, "{log_record}"),
}
_QUEUE = {
    "traces": (semconv.OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE, "{span}"),
    "logs": (semconv.OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE, "{log_record}"),
}
_INTERNAL = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


class Accounts(Protocol):
    """Who has accounts."""

    def accounts(self) -> Iterable[Account]:
        """Return them."""


class _Source:
    """Whose accounts a provider's instruments read: they are registered once, accounts come and go."""

    def __init__(self) -> None:
        self._owner: Callable[[], Accounts | None] = lambda: None

    def read_from(self, owner: Accounts) -> None:
        """Read the owner's from now on, as long as it lives: it may hold the provider."""
        self._owner = ref(owner)

    def accounts(self) -> Iterable[Account]:
        """Return the accounts of now."""
        owner = self._owner()
        return () if owner is None else owner.accounts()


_sources: dict[int, tuple[ref[Any], _Source]] = {}
"""By the provider's id, for as long as it lives: it need not be hashable, and logfire's is not."""


def _source_of(provider: Any) -> tuple[_Source, bool]:
    """Return what the provider's instruments read, and whether they have been made."""
    key = id(provider)
    known = _sources.get(key)
    if known is not None and known[0]() is provider:
        return known[1], True
    made = _Source()
    _sources[key] = ref(provider, lambda gone: _forget(key, gone)), made
    return made, False


def _forget(key: int, gone: ref[Any]) -> None:
    known = _sources.get(key)
    if known is not None and known[0] is gone:
        del _sources[key]


def observe(provider: Any, meter: Meter, owner: Accounts) -> None:
    """Let the provider's readers read the owner's accounts from now on.

    Args:
        provider: whose meter it is.
        meter: makes the instruments, once per provider.
        owner: asked at each collection; not kept alive.
    """
    source, is_known = _source_of(provider)
    source.read_from(owner)
    if is_known:
        return
    meter.create_observable_counter(
        semconv.OTEL_PIPELINE_SDK_DROPPED,
        [_sum_of(source, lambda counts: counts.lost)],
        "{item}",
        "Spans, points of metrics and log records that were lost on their way out, for whatever reason.",
    )
    meter.create_observable_up_down_counter(
        semconv.OTEL_PIPELINE_SDK_SPOOLED,
        [_sum_of(source, lambda counts: counts.spooled, spools=True)],
        "{item}",
        "Spans, points of metrics and log records that wait in the spool until they are taken.",
    )
    meter.create_observable_counter(
        semconv.OTEL_PIPELINE_SDK_RECOVERED,
        [_sum_of(source, lambda counts: counts.recovered, spools=True)],
        "{item}",
        "Items that processes had left in the spool that have ended, and that were exported by this one.",
    )
    if _told_by_the_sdk():
        return
    for signal, (name, unit) in _EXPORTED.items():
        brief = "Items whose export has ended; with error.type: those that were lost."
        meter.create_observable_counter(name, [_reading(source, signal, _exported)], unit, brief)
    for signal, (name, unit) in _PROCESSED.items():
        brief = "Items that were given to the exporter; with error.type: those that were lost before."
        meter.create_observable_counter(name, [_reading(source, signal, _processed)], unit, brief)
    for signal, (name, unit) in _QUEUE.items():
        meter.create_observable_up_down_counter(
            name, [_reading(source, signal, _queued)], unit, "Items that wait in the processor's queue."
        )


def _told_by_the_sdk() -> bool:
    """Tell whether the SDK counts by itself under these names: the sum over scopes would be twice the truth."""
    asked = os.environ.get(_INTERNAL, "").strip().lower() == "true"
    return asked and find_spec("opentelemetry.sdk._shared_internal._processor_metrics") is not None


def _reading(
    source: _Source, signal: str, read: Callable[[Account], Iterator[Observation]]
) -> Callable[[CallbackOptions], list[Observation]]:
    def callback(_options: CallbackOptions) -> list[Observation]:
        return [seen for account in source.accounts() if account.signal == signal for seen in read(account)]

    return callback


def _sum_of(
    source: _Source, read: Callable[[Counts], int], *, spools: bool = False
) -> Callable[[CallbackOptions], list[Observation]]:
    """Make the callback that sums something up by signal, of all accounts or of those with a spool."""

    def callback(_options: CallbackOptions) -> list[Observation]:
        found: dict[str, int] = {}
        for account in source.accounts():
            if account.spools or not spools:
                found[account.signal] = found.get(account.signal, 0) + read(account.counts())
        return [Observation(count, {semconv.OTEL_PIPELINE_SIGNAL: signal}) for signal, count in found.items()]

    return callback


def _exported(account: Account) -> Iterator[Observation]:
    counts = account.counts()
    yield Observation(counts.exported - counts.as_lines, account.exporter_attributes)
    if counts.as_lines:
        yield Observation(counts.as_lines, account.lines_attributes)
    for reason, count in counts.dropped_by_exporter.items():
        yield Observation(count, {**account.exporter_attributes, semconv.ERROR_TYPE: reason})


def _processed(account: Account) -> Iterator[Observation]:
    if account.queue_size is None:
        return
    counts = account.counts()
    yield Observation(counts.given, account.processor_attributes)
    for reason, count in {SLOW.reason: 0, **counts.dropped_before}.items():
        yield Observation(count, {**account.processor_attributes, semconv.ERROR_TYPE: reason})


def _queued(account: Account) -> Iterator[Observation]:
    if account.queue_size is not None:
        yield Observation(account.counts().waiting, account.processor_attributes)
