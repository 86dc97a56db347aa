"""Spans that are handed on together are counted, kept in order and dropped as one by one."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_pipeline.export.accounting import Account
from otel_pipeline.export.border import Border
from otel_pipeline.export.exporters import component
from otel_pipeline.export.losses import Losses
from otel_pipeline.export.otlp import recorded
from otel_pipeline.export.processors import FEW, NEARLY_FULL, CountedSpans

pytestmark = pytest.mark.skipif(
    find_spec("opentelemetry.sdk._shared_internal") is None, reason="older SDKs queue a span otherwise"
)
QUEUE = 128


class Nowhere(SpanExporter):
    """Takes everything."""

    def export(self, spans):
        return SpanExportResult.SUCCESS


@pytest.fixture
def processor():
    account = Account("traces", "nowhere", component("none"))
    border = Border(Nowhere(), account, Losses(), lambda *_said: None)
    made = CountedSpans(border, max_queue_size=QUEUE, max_export_batch_size=QUEUE, schedule_delay_millis=600_000)
    made._batch_processor._should_export_batch = lambda *_how: False
    yield made
    made.shutdown()


@pytest.mark.parametrize("count", [1, FEW - 1, FEW, FEW + 1, 20])
def test_the_order_is_theirs(processor, count):
    """The oldest leaves first."""
    processor.take_all(list(range(count)))

    assert list(processor._counted.waiting)[::-1] == list(range(count))
    assert processor._border.account.counts().started == count


@pytest.mark.parametrize("before", range(QUEUE - NEARLY_FULL - 21, QUEUE, 9))
def test_what_a_full_queue_drops_is_counted(processor, before):
    """Whatever was there: of 80 that come at once the newest stay."""
    for at in range(before):
        processor.take(at)
    processor.take_all(list(range(before, before + 80)))

    counts = processor._border.account.counts()
    kept = list(processor._counted.waiting)[::-1]
    dropped = max(0, before + 80 - QUEUE)
    assert kept == list(range(dropped, before + 80))
    assert (counts.started, sum(counts.dropped_before.values())) == (before + 80, dropped)


@pytest.mark.parametrize("count", [recorded.MAX_KNOWN - 1, recorded.MAX_KNOWN, recorded.MAX_KNOWN + 1])
def test_so_many_values_of_a_name_are_kept_as_bytes(count):
    """The others are encoded each time, alike."""
    value = recorded._Value("partition")
    first = [value.of_text(str(at)) for at in range(count)]

    assert len(value.known) == min(count, recorded.MAX_KNOWN)
    assert [value.known.get(str(at)) or value.of_text(str(at)) for at in range(count)] == first


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_long_value_is_not_kept(more):
    """By the bytes of the whole attribute."""
    value = recorded._Value("a")
    found = value.of_text("x" * 100)
    text = "x" * (100 + recorded.MAX_KNOWN_BYTES - len(found) - 2 + more)
    value.known.clear()
    found = value.of_text(text)

    assert bool(value.known) is (len(found) <= recorded.MAX_KNOWN_BYTES)
