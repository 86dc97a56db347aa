"""The SDK's parts that are ours, in a forked child: its locks, its name, its counts, its connections, its threads.

The SDK makes its queues and threads anew by itself, where hooks run. It keeps locks that a thread of the parent may
hold for ever, sums that the parent has exported already, and connections that the parent is writing to.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from opentelemetry.sdk import resources
from opentelemetry.sdk.metrics._internal.metric_reader_storage import MetricReaderStorage
from opentelemetry.sdk.resources import Resource
from opentelemetry.util._once import Once

from otel_pipeline import semconv
from otel_pipeline.engine.forks import Step, forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NEW: dict[type, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.Condition: threading.Condition,
}


def renew_locks(things: Iterable[Any]) -> None:
    """Give these objects locks that nobody holds; events are set that were set."""
    for thing in things:
        for name, value in list(getattr(thing, "__dict__", {}).items()):
            kind = type(value)
            if kind in _NEW:
                setattr(thing, name, _NEW[kind]())
            elif kind is threading.Event:
                made = threading.Event()
                if value.is_set():
                    made.set()
                setattr(thing, name, made)
            elif isinstance(value, Once):
                renew_locks((value,))


def rename(resource: Resource) -> None:
    """Describe this process, no longer its parent, to all that refer to this resource.

    It is changed in its place: tracers, loggers and spans keep the object, and not every SDK has a list of them. Where
    the SDK gives an instance id to each process, as later ones do, it is that one: they add it themselves as well.
    """
    own: dict[str, Any] = {semconv.PROCESS_PID: os.getpid(), semconv.SERVICE_INSTANCE_ID: str(uuid4())}
    detector = getattr(resources, "ServiceInstanceIdResourceDetector", None)
    if detector is not None:
        resources._service_instance_id_lock = threading.Lock()  # type: ignore[attr-defined,unused-ignore]
        own.update(detector().detect().attributes)
    resource._attributes = Resource({**resource.attributes, **own})._attributes


@contextmanager
def held_threads() -> Iterator[list[threading.Thread]]:
    """Give a list of the threads that are not started in this block, by this thread: all where threads are held."""
    held: list[threading.Thread] = []
    if not forks.holds:
        with forks.starting():
            yield held
        return
    start, here = threading.Thread.start, threading.get_ident()

    def hold(thread: threading.Thread) -> None:
        if threading.get_ident() == here:
            held.append(thread)
        else:
            start(thread)

    # The SDK's classes start theirs when they are made, each version in a place of its own.
    threading.Thread.start = hold  # type: ignore[assignment,method-assign]
    try:
        yield held
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]


class ForkedProviders:
    """Makes anew, in a child, what the SDK does not. One for the providers that we made.

    Args:
        resource: of all of them.
        ours: the providers by signal, as they are now.
        held: the SDK's threads that could not be started.
    """

    def __init__(self, resource: Resource, ours: dict[str, Any], held: list[threading.Thread]) -> None:
        self._resource = resource
        self._ours = ours
        self._held = held
        for step, renew in (
            (Step.LOCKS, self._renew_locks),
            (Step.ZERO, self._begin_at_zero),
            (Step.NAME, self._rename),
            (Step.NAME, self._connect),
            (Step.THREADS, self._start),
        ):
            forks.add(renew, step)

    def _renew_locks(self) -> None:
        """Replace all locks that the SDK's threads may have held."""
        for provider in self._ours.values():
            renew_locks(_parts(provider))
        metrics = self._ours.get("metrics")
        if metrics is not None:
            type(metrics)._all_metric_readers_lock = threading.Lock()

    def _begin_at_zero(self) -> None:
        """Forget the sums of the application's own instruments too; the parent exports them."""
        metrics = self._ours.get("metrics")
        if metrics is None:
            return
        consumer = metrics._measurement_consumer
        consumer._reader_storages = {
            reader: MetricReaderStorage(
                consumer._sdk_config, reader._instrument_class_temporality, reader._instrument_class_aggregation
            )
            for reader in consumer._reader_storages
        }

    def _rename(self) -> None:
        """Say this process in all that is exported."""
        rename(self._resource)
        for signal, provider in self._ours.items():
            if signal == "metrics":
                provider._sdk_config.resource = self._resource
                continue
            provider._resource = self._resource
            for tracer in getattr(provider, "_tracers", {}).values():
                tracer.resource = self._resource
            for logger in getattr(provider, "_active_loggers", ()):
                logger._resource = self._resource

    def _connect(self) -> None:
        """Open connections of our own: what two processes write on one is torn."""
        for provider in self._ours.values():
            for part in _parts(provider):
                for adapter in getattr(part, "adapters", {}).values():
                    # As an adapter does that is unpickled. What it had is closed here, not there.
                    adapter.init_poolmanager(adapter._pool_connections, adapter._pool_maxsize, adapter._pool_block)

    def _start(self) -> None:
        """Start the SDK's threads, where it was told of nothing; those that were held, where its queues are kept."""
        held, self._held = self._held, []
        goes_on = forks.goes_on and held
        if forks.told and not goes_on:
            return
        for provider in self._ours.values():
            for part in _parts(provider):
                start = getattr(part, "_at_fork_reinit", None)
                if goes_on and hasattr(part, "_pid"):
                    part._pid = os.getpid()  # By which it would notice the fork, and empty its queue.
                elif not goes_on and start is not None:
                    start()
        for thread in held if goes_on else ():
            thread.start()


_INSIDE = ("_batch_processor", "_exporter", "span_exporter", "_client", "_transport", "_session", "cookies")
"""From a processor or reader to the connections of its exporter, in all versions of the SDK; cookies have a lock."""


def _parts(provider: Any) -> Iterator[Any]:
    """Yield all objects of a provider that have locks, threads or connections."""
    yield provider
    for several, names in (
        ("_active_span_processor", "_span_processors"),
        ("_multi_log_record_processor", "_log_record_processors"),
        ("_measurement_consumer", "_reader_storages"),
    ):
        holder = getattr(provider, several, None)
        if holder is not None:
            yield holder
            for part in list(getattr(holder, names, ())):
                yield from _inside(part)
    yield from list(getattr(provider, "_meters", {}).values())


def _inside(part: Any) -> Iterator[Any]:
    yield part
    for name in _INSIDE:
        inner = getattr(part, "__dict__", {}).get(name)
        if inner is not None:
            yield from _inside(inner)
