"""A forked child begins at zero: the sum over all series is what was sent, and each signal says who it comes from."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections import Counter

import pytest

from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, SpanRecord
from tests.processes.conftest import Collector

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

SENDS = """
import multiprocessing, os, sys, time

def send(count):
    import logging
    from kafka import KafkaProducer
    producer = KafkaProducer(bootstrap_servers=os.environ["BROKER"], api_version=(2, 3))
    for number in range(count):
        producer.send("orders", b"%d" % number)
    producer.flush()
    producer.close()
    logging.getLogger("app").warning("sent")

import logging
logging.basicConfig(stream=sys.stdout)
import otel_pipeline
pipe = otel_pipeline.instrument("app", environment="production")
if __name__ == "__main__":
    send(20)
"""
PROCESSES = """
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=send, args=(5,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""
BARE = """
    children = []
    for _ in range(2):
        child = {fork}
        if child == 0:
            send(5)
            os._exit(0 if pipe.flush(20) else 1)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
"""
WAYS = {
    "os.fork": BARE.format(fork="os.fork()"),
    # As a host that is written in C does, uWSGI for example: no hook of the interpreter's is run.
    "without hooks": BARE.format(fork="__import__('ctypes').PyDLL(None).fork()"),
    "fork": PROCESSES.format(method="fork"),
    "forkserver": PROCESSES.format(method="forkserver"),
    "spawn": PROCESSES.format(method="spawn"),
}


TRIES = 3
"""Where no hooks are run, another thread may hold the interpreter's own lock at the fork: its child hangs then, with or
without us."""


def run_once_it_ends(programs, broker, way):
    """Run the program, and what has reached its collector; again where such a child hangs."""
    for left in reversed(range(TRIES if way == "without hooks" else 1)):
        with otlp_receiver(programs.folder / f"collector-{left}") as endpoint:
            where = {"BROKER": broker, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
            try:
                ran = programs.run(SENDS + WAYS[way], timeout=40 if left else 90, **where)
            except subprocess.TimeoutExpired:
                if not left:
                    raise
                continue
            return ran, Collector(endpoint, programs.folder / f"collector-{left}")
    return None


@pytest.mark.parametrize("way", WAYS)
def test_what_was_sent_is_the_sum_over_all_processes(programs, broker, way):
    """Spans, points and log records of one process have one name, which no other process has."""
    ran, collector = run_once_it_ends(programs, broker, way)
    sent = collector.sums("messaging.client.sent.messages")
    spans = collector.records(SpanRecord)
    counted = {instance: value for (instance, _), value in sent.items()}
    pids = {
        kind: {(r.resource["service.instance.id"], r.resource["process.pid"]) for r in collector.records(kind)}
        for kind in (SpanRecord, LogRecord, MetricRecord)
    }

    assert ran.code == 0, ran.err
    assert Counter(span.resource["service.instance.id"] for span in spans) == counted
    assert sorted(counted.values()) == [5, 5, 20]
    assert pids[SpanRecord] == pids[LogRecord] == pids[MetricRecord]
    assert len(dict(pids[SpanRecord])) == len({pid for _, pid in pids[SpanRecord]}) == 3
    assert len({(span.trace_id, span.span_id) for span in spans}) == 30


def test_the_applications_own_instruments_begin_at_zero(programs, collector):
    """Through our provider: a child does not export again what its parent has counted, cumulative or not."""
    source = """
    import os
    import otel_pipeline
    from opentelemetry import metrics
    pipe = otel_pipeline.instrument("app", environment="production")
    meter = metrics.get_meter("app")
    counter, histogram = meter.create_counter("orders"), meter.create_histogram("sizes")

    def count(number):
        for _ in range(number):
            counter.add(1)
            histogram.record(2)

    count(7)
    pipe.flush()
    child = os.fork()
    if child == 0:
        count(3)
        os._exit(0 if pipe.flush(20) else 1)
    raise SystemExit(os.waitpid(child, 0)[1])
    """
    for temporality in ("cumulative", "delta"):
        ran = programs.run(
            source,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
        )
        assert ran.code == 0, ran.err
    values = Counter()
    for record in collector.records(MetricRecord):
        for point in record.points:
            if record.name == "orders" and point.value:
                values[record.temporality, record.resource["process.pid"], point.value] += 1

    assert sorted((temporality, value) for temporality, _, value in values) == [
        ("CUMULATIVE", 3),
        ("CUMULATIVE", 7),
        ("DELTA", 3),
        ("DELTA", 7),
    ]


KNOWN = """
import json, os, time
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
import otel_pipeline
pipe = otel_pipeline.instrument("app")
options = dict(bootstrap_servers=os.environ["BROKER"], api_version=(2, 3))

def work():
    producer = KafkaProducer(**options)
    for number in range(10):
        producer.send("orders", b'{"id": 1}').get(20)
    # Not subscribed: where the answer to the first request for metadata, which names no topic, comes after subscribe(),
    # kafka-python 3.0.12 asks again in 300 s.
    consumer = KafkaConsumer(**options, auto_offset_reset="earliest", consumer_timeout_ms=60_000)
    consumer.assign([TopicPartition("orders", 0)])
    for number, message in enumerate(consumer, 1):
        if number == 10:
            return producer, consumer

def known(since_ns):
    engine, totals = pipe._engine, pipe._engine.totals
    sent = [value for counter in totals.counters if counter is engine.sent for _, value in counter.points()]
    return json.dumps({
        "flows": [flow.destination for flow in pipe._monitoring.judge().flows],
        "errors": pipe.status().errors,
        "acknowledged": sum(map(len, engine.acknowledged.values())),
        "given": sum(sum(tell().values()) for tell in engine.given),
        "clients": len(engine.consumers.all()),
        "sent": sent,
        "durations": sum(point.count for _, point in engine.operation_duration.points()) > 0,
        "started": {counter.start_ns > since_ns for counter in totals.counters} == {True},
    })

"""


def test_a_child_knows_nothing_of_what_its_parent_saw(programs, broker):
    """No flow, no failure, no count, no acknowledged offset, no client; what it then does itself is seen."""
    source = """
    kept = work()
    pipe._guard.count("somewhere")
    print(known(0), flush=True)
    before_ns = time.time_ns()
    child = os.fork()
    if child == 0:
        print(known(before_ns), flush=True)
        kept = work()
        print(known(before_ns), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    """
    ran = programs.run(KNOWN + textwrap.dedent(source), BROKER=broker, timeout=180)
    saw = {"flows": ["orders"], "errors": {"somewhere": 1}, "acknowledged": 1, "given": 10, "clients": 1, "sent": [10],
           "durations": True, "started": True}  # fmt: skip
    nothing = {"flows": [], "errors": {}, "acknowledged": 0, "given": 0, "clients": 0, "sent": [],
               "durations": False, "started": True}  # fmt: skip

    assert [json.loads(line) for line in ran.out.splitlines()] == [saw, nothing, {**saw, "errors": {}}], ran.err
