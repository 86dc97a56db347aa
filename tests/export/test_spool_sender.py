"""The sender: what each answer means, one request too large or poisoned, threads that die, and what is waited for."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline.export import workers
from otel_pipeline.export.accounting import Account
from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.losses import Losses
from otel_pipeline.export.otlp import exporters, variables
from otel_pipeline.export.otlp.http import Outcome, Transport
from otel_pipeline.export.processors import CountedSpans
from otel_pipeline.export.spool import outlet as outlets
from otel_pipeline.export.spool.answers import Meaning, meaning
from otel_pipeline.export.spool.border import SpoolingBorder
from otel_pipeline.export.spool.halves import halves
from otel_pipeline.export.spool.outlet import Outlet
from otel_pipeline.export.spool.segments import FileSegment
from otel_pipeline.export.spool.sender import Sender
from tests.collected import bodies, points
from tests.collected import names as arrived
from tests.export.spools import Spooled
from tests.export.test_border import log_records, metrics, spans
from tests.export.test_spool import left_by
from tests.limits import below_at_above


class Scripted:
    """A transport that answers as it is told: statuses, outcomes, exceptions; then 200."""

    settings = SimpleNamespace(timeout_s=5.0)

    def __init__(self, *script, answer=None):
        self.script = list(script)
        self.answer = answer
        self.sent = []

    def once(self, body, timeout_s):
        del timeout_s
        self.sent.append(body)
        said = self.script.pop(0) if self.script else self.answer(body) if self.answer else 200
        if isinstance(said, BaseException) and not isinstance(said, (OSError, ValueError)):
            raise said
        if not isinstance(said, Outcome):
            said = Outcome(error=said) if isinstance(said, Exception) else Outcome(said)
        exporters._tell_attempt(said)
        return said

    def close(self):
        pass


class Sent:
    """A spool whose one outlet is asked by hand, without a thread."""

    def __init__(self, folder, *script, answer=None):
        self.spooled = Spooled(folder)
        self.transport = Scripted(*script, answer=answer)
        self.told = self.spooled.told
        self.outlet = Outlet(self.spooled.lane, self.transport, self.told, "http://127.0.0.1:9/v1/traces")

    def once(self):
        """Make one attempt, whenever it is due; how long the next one has to wait then."""
        self.outlet.due_s = self.outlet._others_due_s = float("-inf")
        self.outlet.send(self.spooled.spool)
        return self.outlet.due_s - time.monotonic()

    def all(self):
        """Make attempts until nothing waits."""
        while self.outlet.next_s(self.spooled.spool) is not None:
            self.once()
        return self.transport.sent


@pytest.fixture
def sent(tmp_path):
    return lambda *script, **named: Sent(tmp_path / "spool", *script, **named)


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (200, Meaning.ARRIVED),
        (202, Meaning.ARRIVED),
        (301, Meaning.REFUSED),
        (400, Meaning.REFUSED),
        (401, Meaning.REFUSED),
        (404, Meaning.REFUSED),
        (408, Meaning.WAIT),
        (413, Meaning.TOO_LARGE),
        (429, Meaning.WAIT),
        (500, Meaning.FAILED),
        (501, Meaning.FAILED),
        (502, Meaning.WAIT),
        (503, Meaning.WAIT),
        (504, Meaning.WAIT),
    ],
)
def test_statuses(status, means):
    """As OTLP over HTTP has them."""
    assert meaning(status) is means


def test_batches_that_wait_are_sent_together(sent):
    """In order."""
    made = sent()
    made.spooled.append(b"a", b"b", b"c")

    assert (made.all(), made.told.arrived) == ([b"abc"], 3)


@pytest.mark.parametrize("fault", [503, 429, 408, ConnectionRefusedError(111, "refused"), TimeoutError(), ValueError()])
def test_what_may_pass_later_waits(sent, fault):
    """Longer each time, up to a bound; nothing is lost."""
    made = sent(*[fault] * 8)
    made.spooled.append(b"a")
    waits_s = [made.once() for _ in range(8)]

    assert all(0.8 * 0.2 * 2**at - 0.1 < wait_s < 1.2 * 0.2 * 2**at for at, wait_s in enumerate(waits_s[:4]))
    assert 3.9 < waits_s[-1] < 6.0
    assert (made.all(), made.told.arrived, len(made.told.waited), made.told.lost) == ([b"a"] * 9, 1, 8, {})


def test_retry_after_is_honoured(sent):
    """Also when somebody waits for it."""
    made = sent(Outcome(429, retry_after_s=30.0))
    made.spooled.append(b"a")

    assert 29 < made.once() < 30
    assert made.outlet.asked_to_wait
    assert made.outlet.send(made.spooled.spool) is False


@below_at_above("export.spool.outlet.MAX_RETRY_AFTER_S", 3600, 3599, 3600, 3600)
def test_nobody_is_made_to_wait_for_more_than_an_hour(sent, size, outcome):
    made = sent(Outcome(503, retry_after_s=float(size)))
    made.spooled.append(b"a")

    assert outcome - 0.9 < made.once() <= outcome


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_of_several_batches_one_that_is_refused_is_lost_alone(sent, status):
    """The others that were sent with it arrive."""
    made = sent(answer=lambda body: status if b"poison" in body else 200)
    made.spooled.append(b"a", b"poison", b"c", b"d")

    assert made.all() == [b"apoisoncd", b"a", b"poison", b"c", b"d"]
    assert (made.told.arrived, made.told.refusals) == (3, {str(status): 1})


@below_at_above("export.spool.outlet.MAX_FAILURES", 8, (1, {}), (0, {"500": 1}), (0, {"500": 1}))
def test_a_server_that_fails_at_one_batch(sent, size, outcome):
    """Is asked so many times; then those behind it have their turn."""
    made = sent(*[500] * size)
    made.spooled.append(b"a")
    made.once()
    made.spooled.append(b"b")
    made.all()

    assert (made.told.arrived - 1, made.told.refusals) == outcome
    assert made.transport.sent[-1] == b"b"


def encoded(number):
    """A request with so many spans."""
    return encode_spans(spans(*map(str, range(number)))).SerializeToString()


def names(body):
    """The names of a request's spans."""
    found = ExportTraceServiceRequest.FromString(body)
    return [span.name for of in found.resource_spans for scope in of.scope_spans for span in scope.spans]


def test_what_is_too_large_is_sent_in_parts(sent):
    """A server that takes three spans at once; one that is too large by itself is lost alone."""
    made = sent(answer=lambda body: 413 if len(names(body)) > 3 or "7" in names(body) else 200)
    made.spooled.spool.append(made.spooled.lane, encoded(10), 10)
    made.spooled.spool.append(made.spooled.lane, encoded(2), 2)
    made.all()
    arrived = [name for body in made.transport.sent for name in names(body) if len(names(body)) <= 3]

    assert (made.told.arrived, made.told.refusals, made.spooled.lane.settled) == (11, {"413": 1}, 12)
    assert sorted(set(arrived)) == [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("signal", "payload", "count"),
    [
        ("traces", lambda: encoded(7), 7),
        ("logs", lambda: encode_logs(log_records(*"abcde")).SerializeToString(), 5),
        ("metrics", lambda: encode_metrics(metrics(*range(6))).SerializeToString(), 6),
    ],
)
def test_halves(signal, payload, count):
    """Of each signal: all of it, each once, down to one."""
    whole = payload()
    pieces, done = [(whole, count)], []
    while pieces:
        piece = pieces.pop(0)
        found = halves(signal, piece[0])
        assert sum(count for _, count in found) == piece[1]
        (done if len(found) == 1 else pieces).extend(found)

    assert [count for _, count in done] == [1] * count
    assert len({body for body, _ in done}) == count


@pytest.fixture
def running(tmp_path):
    """A sender with its thread, whose transport is scripted."""
    made = []

    def make(*script, failures=None):
        spooled = Spooled(tmp_path / "spool")
        sender = Sender(spooled.spool, (failures if failures is not None else []).append)
        transport = Scripted(*script)
        sender.outlets.append(Outlet(spooled.lane, transport, spooled.told, "http://127.0.0.1:9/v1/traces"))
        made.append(sender)
        return spooled, sender, transport

    yield make
    for sender in made:
        sender.stop()
        if sender._thread is not None:
            sender._thread.join(5)


def test_what_comes_one_by_one_is_gathered(running):
    """Few requests, unless somebody waits."""
    spooled, sender, transport = running()
    sender.outlets[0].gather_s = 3600.0
    for number in range(10):
        spooled.append(b"%d" % number)
        sender.wake()
    before = list(transport.sent)

    assert sender.drain(30)
    assert (before, transport.sent) == ([], [b"0123456789"])


def test_so_much_is_sent_at_once(running):
    """Whoever waits."""
    spooled, sender, transport = running()
    sender.outlets[0].gather_s = 3600.0
    spooled.spool.append(spooled.lane, b"a", outlets.AT_ONCE_ITEMS)
    sender.wake()
    until_s = time.monotonic() + 30
    while spooled.told.arrived < outlets.AT_ONCE_ITEMS and time.monotonic() < until_s:
        time.sleep(0.01)

    assert transport.sent == [b"a"]


def test_our_own_requests_are_no_telemetry(running):
    """Of whoever has instrumented the library that sends them; nor is what is logged of them."""
    spooled, sender, transport = running()
    seen = []
    once = transport.once
    transport.once = lambda *given: seen.append(get_value(_SUPPRESS_INSTRUMENTATION_KEY)) or once(*given)
    spooled.append(b"a")

    assert sender.drain(30)
    assert seen == [True]


def test_a_file_that_cannot_be_read_now_is_read_later(running, monkeypatch):
    """Where no descriptor is left, for example; other lanes go on."""
    spooled, sender, _ = running()
    lane = spooled.spool.lane("logs", b"another.", spooled.told)
    sender.outlets.append(Outlet(lane, Scripted(), spooled.told, "http://127.0.0.1:9/v1/logs"))
    spooled.append(b"a")
    spooled.spool.append(lane, b"log", 1)
    part = FileSegment.part

    def none_left(segment, at_most_bytes, after=None):
        if segment is spooled.lane.own[0]:
            raise OSError(24, "Too many open files")
        return part(segment, at_most_bytes, after)

    monkeypatch.setattr(FileSegment, "part", none_left)
    assert (sender.drain(30), spooled.told.arrived) == (False, 1)
    monkeypatch.undo()
    assert (sender.drain(30), spooled.told.arrived, spooled.told.lost) == (True, 2, {})


class Foreign(BaseException):
    """Nobody's."""


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError, Foreign])
def test_the_thread_dies_of_nothing(running, kind):
    """Of whatever is raised in it: counted, and nothing is lost."""
    failures = []
    spooled, sender, transport = running(kind(), kind(), failures=failures)
    spooled.append(b"a")

    assert sender.drain(30, patient=True)
    assert (spooled.told.arrived, transport.sent[-1]) == (1, b"a")
    assert failures == ["sender"] * 2


def test_a_thread_that_is_dead_is_started_again(running):
    """By the next batch, and each second; counted."""
    spooled, sender, _ = running()
    spooled.append(b"a")
    assert sender.drain(30)
    sender._stopped = True
    with sender._changed:
        sender._is_woken = True
        sender._changed.notify_all()
    sender._thread.join()
    sender._stopped = False
    spooled.append(b"b")
    sender.wake()

    assert sender.drain(30)
    assert (sender.restarts, spooled.told.arrived) == (1, 2)


def test_who_waits_is_told_at_once_that_it_fails(running):
    """And with patience, it goes on."""
    spooled, sender, _ = running(503, 503, 503)
    spooled.append(b"a")

    assert sender.drain(60) is False
    assert sender.drain(60, patient=True) is True
    assert spooled.told.arrived == 1


def test_an_outage_of_one_place_does_not_hold_up_another(running):
    """Signals have lanes of their own."""
    spooled, sender, _ = running(*[503] * 50)
    lane = spooled.spool.lane("logs", b"another.", spooled.told)
    logs = Scripted()
    sender.outlets.append(Outlet(lane, logs, spooled.told, "http://127.0.0.1:9/v1/logs"))
    spooled.append(b"a")
    spooled.spool.append(lane, b"log", 1)

    assert sender.drain(60, only=sender.outlets[1])
    assert (logs.sent, spooled.told.arrived) == ([b"log"], 1)


def test_what_others_have_left_comes_after_ones_own(running, tmp_path):
    """And is counted apart."""
    left_by(tmp_path / "spool", b"left")
    spooled, sender, transport = running()
    spooled.append(b"own")
    assert sender.drain(30)
    until_s = time.monotonic() + 30
    while not spooled.told.arrived_of_others and time.monotonic() < until_s:
        time.sleep(0.01)

    assert (transport.sent, spooled.told.arrived, spooled.told.arrived_of_others) == ([b"own", b"left"], 1, 1)


def test_what_others_have_left_does_not_wait_for_what_is_gathered(running, tmp_path):
    """A process may live for less than that."""
    left_by(tmp_path / "spool", b"left")
    spooled, sender, transport = running()
    sender.outlets[0].gather_s = 3600.0
    spooled.append(b"own")
    sender.wake()
    until_s = time.monotonic() + 30
    while not spooled.told.arrived_of_others and time.monotonic() < until_s:
        time.sleep(0.01)

    assert transport.sent == [b"left"]


def test_at_the_end_what_others_have_left_is_sent_too(running, tmp_path, monkeypatch):
    """In the time that leaving may take, and without a pause."""
    monkeypatch.setattr(outlets, "OTHERS_APART_S", 3600.0)
    for number in range(3):
        left_by(tmp_path / "spool", b"%d" % number)
    spooled, sender, _ = running()
    spooled.append(b"own")

    assert sender.drain(30, patient=True)
    assert (spooled.told.arrived, spooled.told.arrived_of_others) == (1, 3)


@pytest.fixture
def border(collector, running, tmp_path):
    """A border that spools, in front of the Collector."""
    del tmp_path

    def make(signal="traces", problems=None):
        spooled, sender, _ = running()
        del sender.outlets[:], spooled.spool.lanes[:]
        endpoint = f"{collector.endpoint}/v1/{signal}"
        transport = Transport(variables.read(signal, endpoint, loopback=True), Answers(), exporters._tell_attempt)
        account = Account(signal, collector.endpoint, {})
        says = (problems if problems is not None else []).append
        return SpoolingBorder(
            None, account, Losses(), lambda key, _text: says(key), sender=sender, transport=transport,
            endpoint=endpoint, service="app",
        )  # fmt: skip

    return make


@pytest.mark.parametrize(
    ("signal", "batch", "count"),
    [
        ("traces", lambda: spans(*"abc"), 3),
        ("logs", lambda: log_records("x", "y"), 2),
        ("metrics", lambda: metrics(1, 2), 2),
    ],
)
def test_what_passes_is_spooled_then_exported(border, collector, signal, batch, count):
    """Of each signal; the sum is right on the way."""
    collector.fault(503)
    made = border(signal)
    made.export(batch())
    first = made.account.counts()
    collector.recover()
    assert made.sent_all(30_000)
    then = made.account.counts()

    assert [(each.started, each.exported, each.spooled, each.queued) for each in (first, then)] == [
        (count, 0, count, 0),
        (count, count, 0, 0),
    ]
    assert (len(arrived(collector)), len(bodies(collector)), points(collector)) == {
        "traces": (3, 0, 0),
        "logs": (0, 2, 0),
        "metrics": (0, 0, 2),
    }[signal]


def test_what_cannot_be_encoded_costs_itself_alone(border, collector):
    """It is repaired, or left out."""
    problems = []
    made = border(problems=problems)
    bad = spans("bad")
    bad[0]._start_time = "never"
    made.export([*spans("a", "half \ud800"), *bad, *spans("c")])
    assert made.sent_all(30_000)
    counts = made.account.counts()

    assert (arrived(collector), sorted(problems)) == (
        ["a", "half \ufffd", "c"],
        ["not_encoded.traces", "repaired.traces"],
    )
    assert counts.started == counts.exported + counts.queued + counts.spooled + sum(counts.dropped.values())
    assert (counts.exported, counts.dropped) == (3, {"not_encoded": 1})


def test_what_the_collector_rejects_is_counted(border, collector):
    """Partial success."""
    collector.fault("partial", rejected=2)
    made = border()
    made.export(spans(*"abc"))
    assert made.sent_all(30_000)

    assert (made.account.counts().exported, made.account.counts().dropped) == (1, {"rejected": 2})


class Dying:
    """A border whose first export ends the thread that calls it."""

    def __init__(self):
        self.account = Account("traces", "there", {})
        self.taken = []
        self.calls = 0

    def export(self, batch):
        self.calls += 1
        if self.calls == 1:
            sys.exit()
        self.taken += [span.name for span in batch]

    def sent_all(self, timeout_millis):
        del timeout_millis
        return True

    def shutdown(self, timeout_millis=0):
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_of_the_sdks_that_has_died_is_started_again():
    """And counted; one that was stopped is not."""
    border, failures = Dying(), []
    processor = CountedSpans(border, schedule_delay_millis=10)
    processor.on_end(spans("lost")[0])
    inner = getattr(processor, "_batch_processor", processor)
    thread = getattr(inner, "_worker_thread", None) or inner.worker_thread
    thread.join(30)
    assert not thread.is_alive()
    assert workers.start_again([processor], failures.append) == 1
    processor.on_end(spans("after")[0])
    until_s = time.monotonic() + 30
    while not border.taken and time.monotonic() < until_s:
        time.sleep(0.01)
    assert workers.start_again([processor], failures.append) == 0
    processor.shutdown()

    assert (border.taken, failures) == (["after"], ["export.worker"])
    assert workers.start_again([processor], failures.append) == 0
