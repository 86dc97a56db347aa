"""confluent-kafka's `produce_batch` and its asyncio producer: headers, which the client itself does not give there."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace

confluent_kafka = pytest.importorskip("confluent_kafka")
aio = pytest.importorskip("confluent_kafka.aio")
from confluent_kafka import Producer  # noqa: E402

TRACER = trace.get_tracer("application")


@pytest.fixture
def instrument(telemetry):
    def instrumented(**arguments):
        telemetry.real_time()
        return telemetry.instrument(libraries=["confluent-kafka"], **arguments)

    return instrumented


BATCHES = {
    "all is well": ([{"value": b"a"}, {"value": "b", "key": b"k"}, {}], {}),
    "nothing in it": ([], {}),
    "a full queue": ([{"value": b"a"} for _ in range(4)], {}),
    "too large": ([{"value": b"x" * 2_000_000}, {"value": b"a"}], {}),
    "a partition there is not": ([{"value": b"a", "partition": 100_000}], {}),
    "one partition for all": ([{"value": b"a"}], {"partition": 3}),
    "headers, which it ignores": ([{"value": b"a", "headers": [("a", b"1")]}], {}),
    "other names": ([{"value": b"a", "nonsense": 1, "callback": None}], {}),
    "a number": ([{"value": 5}], {}),
    "a number as key": ([{"value": b"a", "key": 5}], {}),
    "no dictionary": ([{"value": b"a"}, 5], {}),
    "no list": (({"value": b"a"},), {}),
    "a time": ([{"value": b"a", "timestamp": 5}], {}),
    "a text as partition": ([{"value": b"a", "partition": "1"}], {}),
    "an unknown argument": ([{"value": b"a"}], {"nonsense": 1}),
}


@pytest.mark.parametrize(("messages", "options"), BATCHES.values(), ids=BATCHES)
def test_a_batch_gives_what_it_gives_without_us(instrument, messages, options):
    """How many were taken, the error of each other one, and what is raised."""

    def outcome():
        settings = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "queue.buffering.max.messages": 3}
        given = type(messages)(dict(each) if type(each) is dict else each for each in messages)
        producer = Producer(settings)
        try:
            found = producer.produce_batch("t", given, **options)
        except Exception as error:
            found = type(error), str(error)
        errors = [each.get("_error") for each in given if type(each) is dict]
        producer.purge()
        return found, [error and (error.code(), error.str()) for error in errors]

    bare = outcome()
    pipe = instrument()
    assert outcome() == bare
    assert sum(pipe.status().errors.values()) == 0


def test_each_message_of_a_batch_has_a_span_and_its_callback(embedded, mock, instrument, telemetry):
    """Its own callback, or the batch's; called once."""
    topic, seen = mock.topic(), []
    instrument()
    producer = Producer({"bootstrap.servers": embedded, "linger.ms": 0, "log_level": 0})
    messages = [{"value": b"a", "callback": lambda _error, message: seen.append(("own", message.value()))}]
    messages += [{"value": b"b"}, {"value": b"c", "partition": 2}]
    with TRACER.start_as_current_span("request"):
        taken = producer.produce_batch(
            topic, messages, partition=1, on_delivery=lambda _error, message: seen.append(("batch's", message.value()))
        )
    producer.flush(10)

    assert (taken, sorted(seen)) == (3, [("batch's", b"b"), ("batch's", b"c"), ("own", b"a")])
    sends = [span for span in telemetry.spans() if span.name == f"produce {topic}"]
    assert sorted(span.attributes["messaging.destination.partition.id"] for span in sends) == ["1", "1", "2"]
    assert len({span.trace_id for span in telemetry.spans()}) == 1


def test_a_message_of_the_asyncio_producer_belongs_to_who_sent_it(embedded, mock, instrument, telemetry):
    """However many are sent together later, by a pool's threads."""
    topic = mock.topic()
    pipe = instrument()

    async def main():
        producer = aio.AIOProducer({"bootstrap.servers": embedded, "linger.ms": 0, "log_level": 0}, buffer_timeout=0)
        futures = []
        for number in range(3):
            with TRACER.start_as_current_span(f"request {number}"):
                futures.append(await producer.produce(topic, b"%d" % number, partition=0))
        await producer.flush()
        answers = [(await future).offset() for future in futures]
        with pytest.raises(NotImplementedError):
            await producer.produce(topic, b"a", headers=[("a", b"1")])
        await producer.close()
        return answers

    answers = asyncio.run(main())
    names = {span.span_id: span.name for span in telemetry.spans()}
    sends = [span for span in telemetry.spans() if span.name == f"produce {topic}"]

    assert sorted(answers) == [0, 1, 2]
    assert sorted(names[span.parent_span_id] for span in sends) == ["request 0", "request 1", "request 2"]
    assert pipe.status().errors == {}
