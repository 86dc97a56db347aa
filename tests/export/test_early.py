"""Metrics leave soon after a destination's first sight."""

from __future__ import annotations

import threading
import time

from otel_pipeline.engine.totals import Totals
from otel_pipeline.export.early import AT_MOST_EVERY_S, TIMEOUT_S, EarlyExport


class Reader:
    """Counts what it was asked for; may hang or raise."""

    def __init__(self):
        self.flushed = []
        self.open = threading.Event()
        self.open.set()
        self.error = None

    def force_flush(self, timeout_millis):
        self.flushed.append((timeout_millis, threading.current_thread().name, threading.current_thread().daemon))
        self.open.wait(10)
        if self.error is not None:
            raise self.error


class Early:
    """An early export whose time and series the test sets."""

    def __init__(self, *readers):
        self.now = 100.0
        self.failures = []
        self.early = EarlyExport(lambda: readers, self.failures.append, lambda: self.now)

    def look(self, series, *, wait=True):
        self.early.look(series)
        if wait and self.early._thread is not None:
            self.early._thread.join(10)


def test_only_new_series_are_exported_early():
    reader = Reader()
    early = Early(reader)
    for series, exports in ((0, 0), (3, 1), (3, 1), (4, 2), (4, 2)):
        early.now += AT_MOST_EVERY_S
        early.look(series)
        assert len(reader.flushed) == exports


def test_in_a_thread_of_its_own_that_keeps_no_process_alive():
    reader = Reader()
    Early(reader).look(1)
    assert reader.flushed == [(TIMEOUT_S * 1000, "otel_pipeline.early", True)]


def test_at_most_once_in_five_seconds_but_for_the_start():
    """New series each second, for 21 s."""
    reader = Reader()
    early = Early(reader)
    exports = []
    for second in range(21):
        early.now += 1
        early.look(1 + second)
        exports.append(len(reader.flushed))
    assert exports == [1, *[2] * 5, *[3] * 5, *[4] * 5, *[5] * 5]


def test_what_was_born_during_the_pause_leaves_after_it():
    reader = Reader()
    early = Early(reader)
    for series in (1, 2, 3):
        early.look(series)
    assert len(reader.flushed) == 2
    early.now += AT_MOST_EVERY_S
    early.look(3)
    assert len(reader.flushed) == 3


def test_a_reader_that_hangs_holds_up_nobody():
    """The look returns at once, and no second export piles up behind the first."""
    reader = Reader()
    reader.open.clear()
    early = Early(reader)
    started = time.monotonic()
    for series in range(1, 50):
        early.now += AT_MOST_EVERY_S
        early.look(series, wait=False)
    assert time.monotonic() - started < 1
    assert len(reader.flushed) == 1

    reader.open.set()
    early.early._thread.join(10)
    early.look(50)
    assert len(reader.flushed) == 2


def test_a_reader_that_raises_is_told_and_the_others_export():
    bad, good = Reader(), Reader()
    bad.error = ValueError("no")
    early = Early(bad, good)
    early.look(1)
    assert (early.failures, len(good.flushed)) == ([bad.error], 1)


def test_a_program_that_ends_starts_no_thread(monkeypatch):
    def start(_thread):
        raise RuntimeError("can't start new thread at interpreter shutdown")

    early = Early(Reader())
    monkeypatch.setattr(threading.Thread, "start", start)
    early.look(1)
    monkeypatch.undo()
    early.now += AT_MOST_EVERY_S
    early.look(2)
    assert early.failures == []


def test_nothing_to_export_with():
    Early().look(1)


def test_series_are_counted():
    totals = Totals()
    counter, histogram = totals.counter("c", "1", ""), totals.histogram("h", "s", "", (1,))
    assert totals.series_count == 0
    counter.cell({"a": 1})
    counter.cell({"a": 1})
    histogram.local({"a": 1})
    histogram.local({"a": 2})
    assert totals.series_count == 3
