"""Ages that are asked for: of the event, of the wait for processing, and order by time, through a broker."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_pipeline
from otel_pipeline.detectors.extended_watch import ExtendedWatch
from otel_pipeline.detectors.partition import PartitionWatch
from otel_pipeline.testing.telemetry import shared


def ms_before_the_start(age_s):
    """The time, as a broker stamps it, of a message as old as this when the test began."""
    return shared().start_ns // 1_000_000 - age_s * 1_000


def start_s():
    """Where the counted clock began."""
    return shared().start_ns / 1e9


@pytest.fixture
def configured(telemetry, tmp_path):
    """`instrument()` with this file."""

    def instrument(text, **arguments):
        path = tmp_path / "otel_pipeline.yaml"
        path.write_text(text)
        return telemetry.instrument(config_file=path, **arguments)

    return instrument


def written(age_s):
    """`ce_time` of an event as old as this when the test began."""
    return datetime.fromtimestamp(start_s() - age_s, timezone.utc).isoformat().encode()


def sent(kafka, *times):
    """A topic with one message for each `ce_time`, None has no header; sent together, so that one pull brings them."""
    topic, producer = kafka.topic(), kafka.producer(linger_ms=1_000)
    for each in times:
        producer.send(topic, b"a", headers=[] if each is None else [("ce_time", each)], partition=0)
    producer.flush()
    return topic


def read(kafka, topic, count, **options):
    """Handle this many messages in a plain loop."""
    for at, _record in enumerate(kafka.consumer(topic, **options), start=1):
        if at == count:
            break


def recorded(telemetry, name):
    """Of each series of a histogram: count and whole seconds."""
    metric = telemetry.metric(name)
    points = [] if metric is None else metric.points
    return [(sum(point.bucket_counts), round(point.sum)) for point in points]


def met(telemetry, name):
    """Cases of an objective; none of these tests reads anything again."""
    return {
        point.attributes["otel_pipeline.slo.met"]: point.value
        for point in telemetry.metric("otel_pipeline.slo.events").points
        if point.attributes["otel_pipeline.slo.name"] == name
        if point.value or point.attributes["otel_pipeline.slo.met"] != "replayed"
    }


GARBAGE = [b"yesterday", b"\xff\xfe", b"3000-01-01T00:00:00Z", b"2026-11-23T12:00:00", b"x" * 100_000]


def test_the_age_of_events(configured, telemetry, kafka):
    """By `ce_time`; garbage and the far future are unknown, counted, and lose no message."""
    topic = sent(kafka, written(100), written(200), None, *GARBAGE)
    pipe = configured(
        "destinations: {'*': {event_age: true}}\n"
        f"objectives: {{seen: {{destination: {topic}, age: event, threshold: 150s, objective: 0.5}}}}"
    )
    read(kafka, topic, 8)

    assert recorded(telemetry, "otel_pipeline.event.age") == [(2, 300)]
    assert met(telemetry, "seen") == {"true": 1, "false": 1, "unknown": 6}
    assert pipe.status().errors == {"event_time.ce_time": 4}


def test_nothing_of_it_without_being_asked(telemetry, mock):
    """No series, and the plain observer: the header is not even looked at."""
    topic = sent(mock, written(100), b"garbage")
    pipe = telemetry.instrument()
    consumer = mock.consumer(topic)
    next(iter(consumer))
    watches = [type(watch) for flow in pipe._monitoring.flows.every() for watch in flow.watches()]

    assert watches == [PartitionWatch]
    assert not issubclass(PartitionWatch, ExtendedWatch)
    names = ("event.age", "process.wait", "order.lateness")
    assert [recorded(telemetry, f"otel_pipeline.{name}") for name in names] == [[], [], []]
    assert pipe.status().errors == {}


def test_the_applications_own_function(configured, telemetry, mock):
    """It comes first, for every destination; what it raises is counted and reaches nobody."""
    topic = sent(mock, *[written(50)] * 4)
    answers = {
        0: datetime.fromtimestamp(start_s() - 300, timezone.utc).replace(tzinfo=None),
        1: start_s() - 200,
        2: float("nan"),
    }
    pipe = configured("", event_time=lambda record: answers[record.offset])
    read(mock, topic, 4)

    assert recorded(telemetry, "otel_pipeline.event.age") == [(2, 500)]
    assert pipe.status().errors == {"event_time.value": 1, "event_time": 1}


def test_pulls_and_batches(configured, telemetry, mock):
    """Each message has its own age, whether processed as a pull, one by one, or as a batch."""
    topic = sent(mock, *map(written, (100, 200, 300)))
    configured("destinations: {'*': {event_age: true}}")
    consumer = mock.consumer(topic)
    mock.poll(consumer, 3)
    consumer.poll(0)
    first = recorded(telemetry, "otel_pipeline.event.age")
    again = mock.consumer(topic, group_id="again")
    records = mock.poll(again, 3)
    consumer.close()
    with otel_pipeline.process(records[0], consumer=again):
        pass
    with otel_pipeline.process(records[1:], consumer=again):
        pass

    assert first == [(3, 600)]
    assert sorted(recorded(telemetry, "otel_pipeline.event.age")) == [(3, 600), (3, 600)]


def test_the_wait_for_processing(configured, telemetry, mock):
    """From the pull to `process()`, wherever that is; the counted clock ticks 1 ms a look."""
    topic = sent(mock, None, None)
    configured("destinations: {'*': {process_wait: true}}")
    consumer = mock.consumer(topic)
    records = mock.poll(consumer, 2)
    for _ in range(2_000):
        telemetry.clock_ns()
    for record in records:
        with otel_pipeline.process(record):
            pass
    with otel_pipeline.process(records[0]):
        pass

    assert recorded(telemetry, "otel_pipeline.process.wait") == [(2, 4)]


def test_order_by_time(configured, telemetry, mock):
    """Of ordered destinations alone, and only what is new: reading again is no disorder."""
    ordered, other = sent(mock, *map(written, (30, 10, 20, 5, 12))), sent(mock, *map(written, (1, 60)))
    configured(f"destinations: {{{ordered}: {{ordered: true}}, {other}: {{event_age: true}}}}")
    read(mock, other, 2)
    consumer = mock.consumer(ordered)
    for at, _record in enumerate(consumer, start=1):
        if at == 5:
            consumer.seek_to_beginning()
        if at == 10:
            break
    regressions = {
        point.attributes["messaging.destination.name"]: point.value
        for point in telemetry.metric("otel_pipeline.order.violations").points
        if point.attributes["otel_pipeline.violation"] == "event_time_regression"
    }

    assert recorded(telemetry, "otel_pipeline.order.lateness") == [(2, 17)]
    assert regressions == {ordered: 2, other: 0}


def test_order_by_the_times_of_sending(configured, telemetry, mock):
    """Where nothing says when events happened."""
    topic = mock.topic()
    producer = mock.producer()
    for age_s in (5, 3, 4):
        producer.send(topic, b"a", timestamp_ms=ms_before_the_start(age_s), partition=0).get(10)
    configured("destinations: {'*': {ordered: true}}")
    read(mock, topic, 3)

    assert recorded(telemetry, "otel_pipeline.order.lateness") == [(1, 1)]


def test_decisions_by_the_age_of_events(configured, telemetry, mock):
    """A model's objective may ask for the event; joined with data of an unknown time it is unknown."""
    topic = sent(mock, written(100), written(200), None, written(1))
    configured(
        "destinations: {'*': {event_age: true}}\n"
        "objectives: {decided: {model: m, age: event, threshold: 150s, objective: 0.5}}"
    )
    for at, _record in enumerate(mock.consumer(topic), start=1):
        if at == 4:
            otel_pipeline.flow.input("features")
        with otel_pipeline.inference("m"):
            pass
        if at == 4:
            break

    assert met(telemetry, "decided") == {"true": 1, "false": 1, "unknown": 2}


def exemplars(telemetry):
    """(metric, value in whole seconds, trace id, span id) of each."""
    data = telemetry._reader.get_metrics_data()
    return {
        (metric.name.removeprefix("otel_pipeline."), round(each.value), each.trace_id, each.span_id)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        for each in getattr(point, "exemplars", ())
    }


def test_exemplars_lead_to_the_trace(telemetry, mock):
    """Of the message's own span for its ages, of the call's for the decision."""
    topic, producer = mock.topic(), mock.producer()
    producer.send(topic, b"a", timestamp_ms=ms_before_the_start(40), partition=0).get(10)
    telemetry.instrument()
    for _record in mock.consumer(topic):
        with otel_pipeline.inference("m"):
            pass
        break
    spans = {span.name: (int(span.trace_id, 16), int(span.span_id, 16)) for span in telemetry.spans()}

    message, call = spans[f"process {topic}"], spans["predict m"]
    assert exemplars(telemetry) == {
        ("delivery.age", 40, *message),
        ("data.age", 40, *message),
        ("decision.age", 40, *call),
    }


def test_exemplars_of_batches_and_of_polled_messages(telemetry, mock):
    """The age at the end, of a batch the oldest; no span of the message was there when it was delivered."""
    topic, producer = mock.topic(), mock.producer(linger_ms=1_000)
    for age_s in (200, 400, 20):
        producer.send(topic, b"a", timestamp_ms=ms_before_the_start(age_s), partition=0)
    producer.flush()
    telemetry.instrument()
    records = mock.poll(mock.consumer(topic), 3)
    with otel_pipeline.process(records[2]):
        pass
    for _ in range(10):  # Closer together than 10 ms the first is enough.
        telemetry.clock_ns()
    with otel_pipeline.process(records):
        pass
    ids = [
        (int(span.trace_id, 16), int(span.span_id, 16)) for span in telemetry.spans() if span.name == f"process {topic}"
    ]

    assert exemplars(telemetry) == {("data.age", 20, *ids[0]), ("data.age", 400, *ids[1])}


@pytest.mark.parametrize("way", ["not sampled", "filtered"])
def test_no_exemplars(telemetry, mock, way):
    """Where no span is recorded, and where the provider wants none; ages are counted all the same."""
    topic, producer = mock.topic(), mock.producer()
    producer.send(topic, b"a", timestamp_ms=ms_before_the_start(40), partition=0).get(10)
    if way == "filtered":
        telemetry.meter_provider._sdk_config.exemplar_filter = AlwaysOffExemplarFilter()
    else:
        telemetry.sample(ALWAYS_OFF)
    telemetry.instrument()
    for _record in mock.consumer(topic):
        with otel_pipeline.inference("m"):
            pass
        break

    assert exemplars(telemetry) == set()
    names = ("delivery.age", "data.age", "decision.age")
    assert [recorded(telemetry, f"otel_pipeline.{name}") for name in names] == [[(1, 40)]] * 3
