"""Right where existing instrumentations are wrong: each was reproduced with one of them."""

from __future__ import annotations

import inspect
import threading
from importlib.metadata import version

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError
from kafka.serializer import Serializer
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

import otel_pipeline
from otel_pipeline.engine import pipeline_header


def headers_of(kafka, topic, count=1):
    """The headers of the first messages, as they are on the broker."""
    found = []
    for record in kafka.consumer(topic):
        found.append(list(record.headers))
        if len(found) == count:
            break
    return found


@pytest.mark.parametrize(
    "call",
    [
        lambda send, topic: send(topic, b"v", b"k", None, 0),
        lambda send, topic: send(topic, b"v", b"k", [("a", b"1")], 0, None),
        lambda send, topic: send(topic, b"v", b"k", partition=0),
        lambda send, topic: send(topic, value=b"v", key=b"k", partition=0),
        lambda send, topic: send(topic=topic, value=b"v", key=b"k", headers=[], partition=0),
    ],
)
def test_every_calling_style_works(telemetry, mock, call):
    """Positional and keyword arguments, as the client's own signature has them."""
    topic = mock.topic()
    telemetry.instrument()
    metadata = call(mock.producer().send, topic).get(10)

    assert (metadata.topic, metadata.partition, metadata.offset) == (topic, 0, 0)
    assert [span.name for span in telemetry.spans()] == [f"send {topic}"]


def test_the_wrappers_take_what_the_client_takes(telemetry):
    """What they take, not what they say of themselves: a wrong call fails where it always did."""
    methods = ((KafkaProducer, "send"), (KafkaConsumer, "poll"))
    before = [list(inspect.signature(getattr(kind, name)).parameters) for kind, name in methods]
    telemetry.instrument()

    after = [inspect.signature(getattr(kind, name), follow_wrapped=False) for kind, name in methods]
    assert [list(each.parameters) for each in after] == before


def test_a_send_that_fails_later_is_on_the_span(telemetry, mock):
    """The span ends when the future does, with its error."""
    telemetry.instrument()
    topic = mock.topic("large")
    with pytest.raises(Exception) as raised:
        mock.producer(max_request_size=100).send(topic, b"x" * 1_000).get(5)

    (span,) = telemetry.spans()
    assert (span.name, span.status, span.attributes["error.type"]) == (f"send {topic}", "ERROR", _name(raised.value))


def _name(error):
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def test_the_span_covers_the_acknowledgement(telemetry, mock):
    """It has not ended before the broker has answered, and then it knows partition and offset."""
    topic = mock.topic()
    telemetry.instrument()
    producer = mock.producer(linger_ms=60_000)
    future = producer.send(topic, b"a", partition=0)
    before = telemetry.spans()
    producer.flush()
    future.get(10)

    (span,) = telemetry.spans()
    assert before == []
    assert (span.attributes["messaging.destination.partition.id"], span.attributes["kafka.offset"]) == (
        "0",
        0,
    )


def test_the_applications_callbacks_see_no_span_of_ours(telemetry, mock):
    """Callbacks run in the client's thread with the context that they always had."""
    topic = mock.topic()
    telemetry.instrument()
    seen, done = [], threading.Event()
    future = mock.producer().send(topic, b"a", partition=0)
    future.add_callback(
        lambda metadata: (seen.append((metadata.offset, trace.get_current_span().is_recording())), done.set())
    )

    assert (done.wait(10), seen) == (True, [(0, False)])


@pytest.mark.parametrize("servers", [str, lambda address: [address], lambda address: {address}, lambda a: (a, a)])
def test_bootstrap_servers_of_any_kind(telemetry, mock, servers):
    """A text, a list, a tuple or a set."""
    topic = mock.topic()
    telemetry.instrument()
    producer = KafkaProducer(bootstrap_servers=servers(mock.address), **mock.options)
    producer.send(topic, b"a", partition=0).get(10)
    producer.close()

    (span,) = telemetry.spans()
    host, port = mock.address.split(":")
    assert (span.attributes["server.address"], span.attributes["server.port"]) == (host, int(port))


def test_message_formats_without_headers(telemetry, mock, monkeypatch):
    """Before 0.11 a message has no headers: nothing is written, the span is there."""
    topic = mock.topic()
    telemetry.instrument()
    producer = mock.producer()
    monkeypatch.setitem(producer.config, "api_version", (0, 10, 2))
    producer.send(topic, b"a", partition=0).get(10)
    monkeypatch.undo()

    assert ([span.name for span in telemetry.spans()], headers_of(mock, topic)) == ([f"send {topic}"], [[]])


def test_contrib_beside_ours_gives_no_second_span(telemetry, mock):
    """Whichever came first, a message has one span and one context; it is said."""
    contrib = pytest.importorskip("opentelemetry.instrumentation.kafka")
    topic = mock.topic()
    contrib.KafkaInstrumentor().instrument(tracer_provider=telemetry.tracer_provider)
    pipe = telemetry.instrument()
    mock.send(topic, b"a")
    contrib.KafkaInstrumentor().instrument(tracer_provider=telemetry.tracer_provider)
    pipe.replace_others()
    mock.send(topic, b"b")

    found = headers_of(mock, topic, 2)
    assert [[name for name, _ in each] for each in found] == [["traceparent", "otelp"]] * 2
    assert [span.name for span in telemetry.spans() if span.kind == "PRODUCER"] == [f"send {topic}"] * 2
    assert any("taken off" in problem for problem in pipe.status().problems)


def test_a_serializer_runs_once_and_may_write_headers(telemetry, mock):
    """Neither serializers nor the partitioner are called by us; what a serializer writes into the headers survives."""
    topic, calls = mock.topic(), []

    class Text(Serializer):
        def serialize(self, _topic, *rest):
            calls.append(rest[-1])
            if len(rest) == 2:  # Since 3.0 the headers come along.
                rest[0].append(("schema", b"7"))
            return rest[-1].encode()

    telemetry.instrument()
    mock.producer(value_serializer=Text()).send(topic, "a", partition=0).get(10)

    (headers,) = headers_of(mock, topic)
    assert (calls, [name for name, _ in headers if name != "schema"]) == (["a"], ["traceparent", "otelp"])
    assert [value for name, value in headers if name == "schema"] == ([b"7"] if kafka_3() else [])


def kafka_3():
    return int(version("kafka-python").split(".")[0]) >= 3


def test_old_messages_and_long_ways_start_a_new_trace(telemetry, mock):
    """Beyond `parent_max_age` or `max_hops` there is a link instead of a parent; the age is kept."""
    topic = mock.topic()
    telemetry.instrument()
    producer = mock.producer()
    now_ms = telemetry.start_ns // 1_000_000
    old_ms = now_ms - 100_000_000
    far = pipeline_header.encode(
        flags=0,
        hops=40,
        environment="local",
        origin_ms=now_ms,
        newest_ms=0,
        path=1,
        producer_id=0,
        sequence=0,
        tag=0,
    )
    created = b"00-%032x-%016x-01"
    suppressed = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    producer.send(topic, b"old", headers=[("traceparent", created % (1, 2))], partition=0, timestamp_ms=old_ms).get(10)
    headers = [("traceparent", created % (3, 4)), ("otelp", far)]
    producer.send(topic, b"far", headers=headers, partition=0, timestamp_ms=now_ms).get(10)
    detach(suppressed)
    for at, _record in enumerate(mock.consumer(topic), start=1):
        if at == 2:
            break

    spans = [span for span in telemetry.spans() if span.kind == "CONSUMER"]
    assert [(span.parent_span_id, [int(link.trace_id, 16) for link in span.links]) for span in spans] == [
        ("", [1]),
        ("", [3]),
    ]
    assert int(spans[0].attributes["otel_pipeline.data.age"]) == 100_000


def test_a_broker_that_is_not_there(telemetry):
    """The application's own error, unchanged; no failure of ours."""
    pipe = telemetry.instrument()
    producer = KafkaProducer(bootstrap_servers="127.0.0.1:1", api_version=(2, 3), max_block_ms=300)
    with pytest.raises(KafkaError):
        producer.send("t", b"a")
    producer.close(0)

    assert ([span.status for span in telemetry.spans()], pipe.status().errors) == (["ERROR"], {})


def test_commit_async_has_a_duration(telemetry, mock):
    """When the broker has answered, not when it was asked."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a")
    consumer = mock.consumer(topic, group_id="readers")
    mock.poll(consumer, 1)
    future = consumer.commit_async()
    while not future.is_done:
        consumer.poll(100)

    points = telemetry.metric("messaging.client.operation.duration").points
    (commit,) = [point for point in points if point.attributes["messaging.operation.name"] == "commit_async"]
    assert (commit.count, commit.attributes["messaging.consumer.group.name"]) == (1, "readers")


def test_without_instrument_everything_is_a_no_op(mock):
    """`process`, `inference` and `current` do nothing before `instrument()`."""
    with otel_pipeline.process(object()), otel_pipeline.inference("model") as call:
        call.rows = 3
        call.set_attribute("a", 1)

    assert otel_pipeline.current() is None
