"""Any headers on confluent-kafka: nothing is raised that the client does not raise, nothing is withheld or reordered."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402

NAMES = st.one_of(
    st.sampled_from(["traceparent", "Traceparent", "tracestate", "baggage", "otelp", "OTELP", "tenant", ""]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
VALUES = st.one_of(
    st.none(),
    st.binary(max_size=80),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),  # Up to 2.3 it ends a text.
    st.sampled_from([b"00-%032x-%016x-01" % (1, 1), b"a=b,c=d", b"AQgBBgGLaOVoFgAAAAC6_vJDVNUAAAABU____490"]),
)
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
ANYTHING = st.one_of(
    LISTS,
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.lists(
        st.one_of(st.tuples(NAMES, VALUES), st.lists(st.binary(max_size=3), max_size=3), st.integers()), max_size=4
    ),
    st.integers(),
    st.tuples(st.tuples(NAMES, VALUES)),
    st.dictionaries(st.one_of(NAMES, st.binary(max_size=3)), st.one_of(VALUES, st.integers()), max_size=4),
)
OURS = {"traceparent", "tracestate", "baggage", "otelp"}
_TRIES = settings(max_examples=150, suppress_health_check=list(HealthCheck))


@pytest.fixture
def pipe(telemetry):
    telemetry.real_time()
    return telemetry.instrument(libraries=["confluent-kafka"])


def outcome(producer, headers):
    try:
        return producer.produce("t", b"a", headers=headers)
    except Exception as error:
        return type(error), str(error)


@_TRIES
@given(ANYTHING)
def test_the_client_says_what_it_says_without_us(pipe, headers):
    """Whatever is given as headers, and given back unchanged."""
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "queue.buffering.max.messages": 10})
    before, engine = repr(headers), pipe._engine
    ours = outcome(producer, headers)
    engine.active = False
    bare = outcome(producer, headers)
    engine.active = True
    producer.purge()

    assert (ours, repr(headers)) == (bare, before)
    assert not [place for place in pipe.status().errors if not place.startswith("header.")]


@_TRIES
@given(LISTS)
def test_headers_arrive_in_their_order(pipe, embedded, topic, clients, headers):
    """Those of the application, byte for byte; of names that are ours, what they say is not lost."""
    producer, consumer = clients
    producer.produce(topic, b"a", partition=0, headers=headers)
    producer.flush(10)
    message = None
    while message is None:
        message = consumer.poll(5)
    theirs = [(name, value) for name, value in message.headers() or () if name.lower() not in OURS]

    given = [(name, value.encode() if isinstance(value, str) else value) for name, value in headers]
    assert theirs == [(name, value) for name, value in given if name.lower() not in OURS]
    assert message.error() is None
    assert not [place for place in pipe.status().errors if not place.startswith("header.")]


@pytest.fixture
def topic(mock):
    return mock.topic()


@pytest.fixture
def clients(pipe, embedded, topic):
    producer = Producer({"bootstrap.servers": embedded, "linger.ms": 0, "log_level": 0})
    consumer = Consumer({"bootstrap.servers": embedded, "group.id": "g", "fetch.wait.max.ms": 5, "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    yield producer, consumer
    consumer.close()
