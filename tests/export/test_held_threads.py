"""Where a host forks without hooks, no thread runs before it has; nothing of what was recorded is lost by that."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_pipeline.engine.forks import Forks, Held
from otel_pipeline.export import forked, handing_over
from otel_pipeline.export.forked import ForkedProviders, held_threads
from otel_pipeline.export.handing_over import HandingOver


class Kept(SpanExporter):
    def __init__(self):
        self.names = []

    def export(self, spans):
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


@pytest.fixture
def host(monkeypatch):
    """A process that forks without hooks, with the `pid` that the test gives it; 2 is a child that takes over."""
    process = SimpleNamespace(pid=1)
    made = Forks(lambda: process.pid)
    made.hold(Held(lambda: process.pid == 1, lambda: process.pid == 2))
    for module in (forked, handing_over):
        monkeypatch.setattr(module, "forks", made)
    process.forks = made
    return process


def ours():
    """The threads that the SDK and we have started."""
    return {each for each in threading.enumerate() if each.name.startswith(("OtelBatch", "otel_pipeline"))}


@pytest.mark.parametrize(("pid", "names"), [(1, ["import", "work"]), (2, ["import", "work"]), (3, ["work"])])
def test_the_sdks_threads_begin_with_what_waits(host, monkeypatch, pid, names):
    """In the process itself once it forks no more, in the child that takes over; another child has an empty queue."""
    kept, provider, before = Kept(), TracerProvider(shutdown_on_exit=False), ours()
    with held_threads() as held:
        provider.add_span_processor(BatchSpanProcessor(kept))
    providers = ForkedProviders(Resource({}), {"traces": provider}, held)
    provider.get_tracer("t").start_span("import").end()
    while_held = ours() - before
    host.pid = pid
    monkeypatch.setattr("os.getpid", lambda: pid)
    host.forks.release() if pid == 1 else host.forks.notice()
    provider.get_tracer("t").start_span("work").end()
    running = ours() - before
    provider.shutdown()

    assert (while_held, len(running), kept.names, host.forks.holds) == (set(), 1, names, False)
    assert providers._held == []


def test_who_flushes_there_is_served_by_a_thread_that_ends(host):
    """One for all who ask; afterwards there is none."""
    began, go_on, flushed, before = threading.Event(), threading.Event(), [], ours()

    def flush():
        began.set()
        go_on.wait(20)
        flushed.append(1)
        return True

    handing = HandingOver(flush, lambda: flushed.append("stopped"))
    at_rest = ours() - before
    first = handing.ask()
    began.wait(20)
    second = [handing.ask() for _ in range(50)][-1]
    while_asked = len(ours() - before)
    go_on.set()
    waited = [handing.wait(first, 20), handing.wait(second, 20)]

    assert (at_rest, while_asked, waited, flushed) == (set(), 1, [True, True], [1, 1])
    assert ours() - before == set()
    assert handing.stop(20)
    assert flushed == [1, 1, "stopped"]
