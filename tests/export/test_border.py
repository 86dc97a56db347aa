"""What passes the border: everything but what cannot be encoded, and all of it is counted."""

from __future__ import annotations

import ast
import logging
import os
import threading
import time

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_pipeline.export import causes, exporters
from otel_pipeline.export.accounting import Account, Counts
from otel_pipeline.export.border import Border
from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.destination import Destination
from otel_pipeline.export.log_records import Emission, Entry
from otel_pipeline.export.losses import Losses
from otel_pipeline.export.otlp.answer import rejected
from otel_pipeline.export.otlp.http import Transport
from otel_pipeline.export.otlp.variables import HttpSettings
from otel_pipeline.export.otlp_lines import LOG_EXPORT_RESULT, Lines
from otel_pipeline.export.processors import CountedSpans
from otel_pipeline.testing import Collector
from tests.collected import bodies, names, paths, points, refused_port
from tests.limits import below_at_above


def spans(*names, **attributes):
    """Spans that have ended."""
    tracer = TracerProvider(resource=Resource({"service.name": "s"}), shutdown_on_exit=False).get_tracer("t")
    made = [tracer.start_span(name, attributes=attributes) for name in names]
    for span in made:
        span.end()
    return made


def log_records(*bodies):
    """What a log exporter is given."""
    given = []

    class Keep:
        def export(self, batch):
            given.extend(batch)
            return LOG_EXPORT_RESULT.SUCCESS

        def shutdown(self):
            pass

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(Keep()))
    emission = Emission(provider, None, 0)
    for body in bodies:
        emission.emit(lambda body: Entry("app", 1, 20, "INFO", body, "app.py", None, 1, None, {}), body)
    return given


def metrics(*values):
    """A collection with a point for each value of the attribute."""
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader], shutdown_on_exit=False).get_meter("m").create_counter("counter")
    for value in values:
        counter.add(1, {"value": value})
    return reader.get_metrics_data()


@pytest.fixture
def problems():
    """Keys, each once, as `Guard.problem` says them."""

    class Keys(list):
        def append(self, key):
            if key not in self:
                super().append(key)

    return Keys()


@pytest.fixture
def border(collector, problems):
    """A border in front of the SDK's exporter to the Collector; for the signal and protocol that is asked for."""
    made = []

    def make(signal="traces", protocol="http/protobuf", endpoint=None, lines=None):
        endpoint = endpoint or collector.endpoint
        given = endpoint if protocol == "grpc" else f"{endpoint}/v1/{signal}"
        destination = Destination(("otlp",), protocol, endpoint, given, lines_when_refused=lines is not None)
        ((_, found),) = exporters.make(
            signal, destination, lines, Answers(), Losses(), lambda *said: problems.append(said[0])
        )
        made.append(found)
        return found

    yield make
    for each in made:
        each.shutdown()


def in_child(read):
    """What a forked child reads."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(read()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as found:
        return ast.literal_eval(found.read())


def counts(border):
    found = border.account.counts()
    return found.started, found.exported, found.queued, found.dropped


BAD = [f"span {number}" for number in range(512)]
BAD[200] = "half \ud800"


def test_half_of_a_surrogate_pair_in_one_of_512_names(border, collector, problems):
    """That name is repaired, and one request takes them all."""
    one = border()

    assert one.export(spans(*BAD)) is SpanExportResult.SUCCESS
    assert names(collector) == [name.replace("\ud800", "\ufffd") for name in BAD]
    assert (counts(one), paths(collector), problems) == (
        (512, 512, 0, {}),
        ["/v1/traces"],
        ["repaired.traces"],
    )


@pytest.mark.parametrize("value", ["half \ud800", ["a", "\udfff"], 2**70])
def test_a_bad_attribute_is_repaired_not_left_out(border, collector, problems, value):
    """The encoder would leave it out, with a traceback in the log, and go on."""
    bad, good = spans("bad", kept="yes", value=value), spans("good")

    assert border().export(bad + good) is SpanExportResult.SUCCESS
    assert (names(collector), problems) == (["bad", "good"], ["repaired.traces"])


def test_events_links_status_and_resource_are_repaired_too(border, collector):
    tracer = TracerProvider(resource=Resource({"service.name": "\ud800"}), shutdown_on_exit=False).get_tracer("t\ud800")
    from opentelemetry.trace import Link, Status, StatusCode

    span = tracer.start_span("bad", links=[Link(spans("linked")[0].context, {"a": "\ud800"})])
    span.add_event("event \ud800", {"a": "\ud800"})
    span.set_status(Status(StatusCode.ERROR, "\ud800"))
    span.end()

    assert border().export([span, *spans("good")]) is SpanExportResult.SUCCESS
    assert names(collector) == ["bad", "good"]


def test_a_log_record_with_half_of_a_pair(border, collector, problems):
    one = border("logs")

    assert one.export(log_records("before", "cut \ud83d", "after")) is LOG_EXPORT_RESULT.SUCCESS
    assert (bodies(collector), counts(one)) == (["before", "cut \ufffd", "after"], (3, 3, 0, {}))


def test_a_point_with_half_of_a_pair(border, collector, problems):
    one = border("metrics")

    assert one.export(metrics("a", "\ud800", "b"), timeout_millis=1000) is MetricExportResult.SUCCESS
    assert (points(collector), counts(one), problems) == (3, (3, 3, 0, {}), ["repaired.metrics"])


def test_over_grpc(border, problems):
    with Collector(grpc=True) as collector:
        collector.fault("partial", rejected=1)
        one = border(protocol="grpc", endpoint=collector.grpc_endpoint)
        assert one.export(spans("a", "b \ud800", "c", big=2**70)) is SpanExportResult.SUCCESS

    assert (names(collector), counts(one), problems) == (
        ["a", "b \ufffd"],
        (3, 2, 0, {"rejected": 1}),
        ["repaired.traces", "rejected.traces"],
    )


def unencodable(*names):
    """Spans that no repair helps: their ids have more bits than ids have."""
    made = spans(*names)
    for span in made:
        span._context = span._context.__class__(1 << 200, 1, is_remote=False)
    return made


@pytest.mark.parametrize("places", [{0}, {511}, {100, 101, 400}, set(range(0, 512, 2)), set(range(512))])
def test_what_cannot_be_encoded_at_all_is_left_out_alone(border, collector, problems, places):
    """It is found by halving, counted and said once; the others arrive, each once."""
    batch = [unencodable("bad")[0] if at in places else spans(f"good {at}")[0] for at in range(512)]
    one = border()
    one.export(batch)

    assert sorted(names(collector)) == sorted(f"good {at}" for at in range(512) if at not in places)
    assert (counts(one), problems) == (
        (512, 512 - len(places), 0, {"not_encoded": len(places)}),
        ["not_encoded.traces"],
    )


class Raises:
    """An exporter that raises, whatever it is given, or only for some."""

    def __init__(self, error, names=None):
        self.error, self.names, self.taken = error, names, []

    def export(self, batch):
        if self.names is None or any(span.name in self.names for span in batch):
            raise self.error
        self.taken += [span.name for span in batch]
        return SpanExportResult.SUCCESS

    def shutdown(self):
        raise self.error


@pytest.mark.parametrize(
    ("names", "taken", "dropped"),
    [(None, [], {"not_encoded": 3}), ({"b"}, ["a", "c"], {"not_encoded": 1})],
)
def test_an_exporter_that_raises(problems, names, taken, dropped):
    """One that somebody else has written, too."""
    exporter = Raises(ValueError("no"), names)
    one = Border(exporter, Account("traces", "theirs", {}), Losses(), lambda *said: problems.append(said[0]))
    one.export(spans("a", "b", "c"))
    one.shutdown()

    assert (exporter.taken, counts(one)) == (taken, (3, len(taken), 0, dropped))
    assert problems == ["not_encoded.traces", "stop.traces"]


def test_an_exporter_that_raises_for_the_network_is_not_asked_again():
    """Nothing is wrong with what it was given."""
    exporter = Raises(ConnectionRefusedError())
    one = Border(exporter, Account("traces", "theirs", {}), Losses(), print)
    one.export(spans("a", "b", "c"))

    assert (counts(one), one.account.last_error[1].reason) == ((3, 0, 0, {"refused": 3}), "refused")


def test_what_is_too_large_at_once_is_sent_in_parts(border, collector):
    """413 says so."""
    collector.fault("too_large", items=3)
    one = border()
    one.export(spans(*"abcdefgh"))

    assert (names(collector), counts(one)) == (list("abcdefgh"), (8, 8, 0, {}))


@below_at_above("export.border.MAX_TRIES", 64, {"413": 63}, {"413": 64}, {"413": 65})
def test_not_more_than_so_many_requests_are_too_large(border, collector, size, outcome):
    """Where even one is: what is left then is given up, and all of it counted."""
    collector.fault("too_large", items=0)
    one = border()
    one.export(spans(*map(str, range(size))))

    assert (counts(one)[3], len(collector.requests) <= 64 + 12) == (outcome, True)


def test_a_network_that_fails_half_way(border, collector):
    """What was sent was sent; nothing more is tried."""
    collector.fault(400, when=lambda _request: bool(collector.arrived))
    collector.fault("too_large", items=2, when=lambda _request: not collector.arrived)
    one = border()
    one.export(spans("a", "b", "c", "d"))

    assert (names(collector), counts(one)) == (["a", "b"], (4, 2, 0, {"400": 2}))


def test_what_the_collector_rejects_is_counted_and_said(border, collector, problems, caplog):
    """In its words, without what a terminal would act on."""
    collector.fault("partial", rejected=2, message="no such tenant\x1b[2J")
    said = []
    one = border()
    one._problem = lambda _key, message: said.append(message)
    one.export(spans("a", "b", "c"))

    assert counts(one) == (3, 1, 0, {"rejected": 2})
    assert said == [
        f"of traces to {collector.endpoint} some are lost: the Collector takes the rest, and says 'no such tenant?[2J'"
    ]


def test_of_an_answer_64_kb_are_read(border, collector):
    """A server that goes on and on is left."""
    collector.fault("huge")
    started = time.monotonic()
    one = border()

    assert one.export(spans("a")) is SpanExportResult.SUCCESS
    assert time.monotonic() - started < 4


def test_connections_are_kept(border, collector):
    one = border()
    for _ in range(5):
        one.export(spans("a"))

    assert (len(collector.requests), collector.connections) == (5, 1)


def test_after_the_end(border, collector):
    one = border()
    one.shutdown()
    one.export(spans("a"))

    assert (counts(one), collector.requests) == ((1, 0, 0, {"already_shutdown": 1}), [])


def test_near_the_developer_what_is_refused_is_written_as_lines(border, tmp_path, caplog):
    """Said once, with the cause; and again when it is over."""
    lines = Lines(tmp_path, "s", print)
    one = border(endpoint=f"http://127.0.0.1:{refused_port()}", lines=lines)
    for _ in range(2):
        assert one.export(spans("a")) is SpanExportResult.SUCCESS

    assert one.account.counts() == Counts(started=2, given=2, exported=2, as_lines=2)
    assert [record.getMessage() for record in caplog.records] == [
        (
            f"otel_pipeline: traces do not arrive at {one.account.destination}: nobody listens there; start a Collector, or "
            f"set OTEL_EXPORTER_OTLP_ENDPOINT to one. Meanwhile they are written as OTLP JSON lines in {tmp_path}."
        )
    ]


def test_one_line_when_a_loss_begins_and_one_when_it_ends(border, collector, caplog):
    """For all signals to one Collector, with what was lost."""
    losses = Losses()
    ours = {signal: border(signal) for signal in ("traces", "logs", "metrics")}
    for each in ours.values():
        each._losses = losses
    collector.fault(400)
    for _ in range(3):
        ours["traces"].export(spans("a", "b"))
    ours["logs"].export(log_records("a"))
    ours["metrics"].export(metrics("a", "b"))
    collector.recover()
    for signal, batch in (("logs", log_records("b")), ("metrics", metrics("a")), ("traces", spans("c"))):
        ours[signal].export(batch)

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            (
                f"otel_pipeline: traces do not arrive at {collector.endpoint}: it refuses the request (HTTP 400); is it an "
                "OTLP endpoint? look at its log. What is lost is counted: status()"
            ),
        ),
        (
            logging.WARNING,
            (
                f"otel_pipeline: telemetry arrives at {collector.endpoint} again; 1 log record, 2 points, 6 spans lost in 0 s"
            ),
        ),
    ]


class Holds:
    """An exporter that does not return before it is let."""

    def __init__(self):
        self.entered, self.released, self.names = threading.Event(), threading.Event(), []

    def export(self, batch):
        self.entered.set()
        self.released.wait(30)
        self.names += [span.name for span in batch]
        return SpanExportResult.SUCCESS

    def shutdown(self):
        pass


@pytest.fixture
def held():
    """A tracer, its border and its exporter, which has the first span in its hands and waits; the queue is of 100."""
    exporter = Holds()
    one = Border(exporter, Account("traces", "holds", {}), Losses(), print)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        CountedSpans(one, max_queue_size=100, max_export_batch_size=100, schedule_delay_millis=3_600_000)
    )
    tracer = provider.get_tracer("t")
    tracer.start_span("first").end()
    flushing = threading.Thread(target=provider.force_flush)
    flushing.start()
    assert exporter.entered.wait(30)
    yield tracer, one, exporter, provider
    exporter.released.set()
    flushing.join()
    provider.shutdown()


@below_at_above("what a batch processor's queue of 100 takes", 100, {}, {}, {"queue_full": 1})
def test_what_a_full_queue_drops_is_counted(held, caplog, size, outcome):
    """The oldest go; the SDK's own line about it is not needed."""
    tracer, one, exporter, provider = held
    for number in range(size):
        tracer.start_span(str(number)).end()
    assert counts(one) == (size + 1, 0, min(size, 100) + 1, outcome)

    exporter.released.set()
    provider.shutdown()
    tracer.start_span("late").end()
    ended = {**outcome, "already_shutdown": 1}
    assert counts(one) == (size + 2, min(size, 100) + 1, 0, ended)
    assert (exporter.names[-1], caplog.records) == (str(size - 1), [])


def test_the_sum_is_exact_when_many_threads_fill_a_queue(held):
    tracer, one, exporter, _ = held

    def work():
        for number in range(500):
            tracer.start_span(str(number)).end()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counts(one) == (4001, 0, 101, {"queue_full": 3900})
    exporter.released.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_counts_from_zero(border):
    one = border()
    one.export(spans("a"))
    assert in_child(lambda: counts(one)) == (0, 0, 0, {})
    assert counts(one) == (1, 1, 0, {})


@below_at_above("export.otlp.answer.MAX_SAID", 200, 199, 200, 200)
def test_of_what_the_collector_says_the_beginning_is_kept(size, outcome):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 7
    response.partial_success.error_message = "x" * size

    assert rejected(response.SerializeToString()) == (7, "x" * outcome)


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff", b"{}", b"<html>", b"\t\x08hhhhhh\x11", b"\x0d\x08hhh"])
def test_an_answer_that_is_not_otlps(body):
    """Not even where a number of eight or four bytes looks like what is meant."""
    assert rejected(body) == (0, "")


@below_at_above("export.otlp.connection.MAX_ANSWER_BYTES", 65536, 65535, 65536, 65536)
def test_of_an_answer_so_much_is_kept(collector, size, outcome):
    collector.fault(200, body=b"x" * size)
    found = Transport(HttpSettings(f"{collector.endpoint}/v1/traces")).post(b"", 30)

    assert (found.status, len(found.body)) == (200, outcome)


def test_a_queue_that_stays_full_is_said(held, caplog):
    """While the export in hand hangs, and while exports are too slow; once, until it has been better for a while."""
    tracer, one, _, _ = held
    for _ in range(3):
        for number in range(150):
            tracer.start_span(str(number)).end()
        one.look()
        one.look()

    assert [record.getMessage() for record in caplog.records] == [
        (
            "otel_pipeline: traces do not arrive at holds: it takes less than is recorded, and the queue is full; give the "
            "Collector more capacity, record less (sample_rate), or set OTEL_BSP_MAX_QUEUE_SIZE higher. What is lost is "
            "counted: status()"
        )
    ]


def test_what_is_still_here_at_the_end(held, border):
    """With what is known of why."""
    tracer, one, _, _ = held
    tracer.start_span("second").end()

    assert one.not_arrived() == ("traces", 2, causes.TIMEOUT)
    assert border().not_arrived() is None


def test_an_export_in_hand_says_why_it_takes_so_long(border, collector):
    """While the exporter tries again."""
    collector.fault(503)
    one = border()
    exporting = threading.Thread(target=one.export, args=(spans("a"),))
    exporting.start()
    deadline = time.monotonic() + 30
    while not one.account.status().trying and time.monotonic() < deadline:
        time.sleep(0.01)
    found = one.account.status().trying, one.not_arrived()
    collector.recover()
    exporting.join()

    cause = causes.Cause("503", "it is not available (HTTP 503)", "is it starting, overloaded, or behind a proxy?")
    assert found == (str(cause), ("traces", 1, cause))
    assert (counts(one), one.account.status().trying) == ((1, 1, 0, {}), "")
