"""What tells messages and topics apart: links of batches, names that a client refuses, a peer for service maps."""

from __future__ import annotations

import pytest

import otel_pipeline
from otel_pipeline.brokers.kafka.client import NAMES
from otel_pipeline.engine.clients import Producer
from otel_pipeline.engine.send import sender


def configured(telemetry, tmp_path, text, **arguments):
    (tmp_path / "otel_pipeline.yaml").write_text(text)
    return telemetry.instrument(config_file=tmp_path / "otel_pipeline.yaml", **arguments)


LINKED = [
    {"kafka.offset": 0},
    {"kafka.offset": 1, "kafka.message.tombstone": True, "kafka.message.key": "gone"},
    {"kafka.offset": 2, "kafka.message.key": "k"},
]


@pytest.mark.parametrize("with_key", [True, False])
def test_links_of_batches_tell_their_messages_apart(telemetry, mock, tmp_path, with_key):
    """Of the pull and of a batch in `process()`: destination, partition, offset, age; the key where keys may stand."""
    topic = mock.topic()
    configured(telemetry, tmp_path, f"capture: {{message_key: {str(with_key).lower()}}}")
    telemetry.real_time()
    producer = mock.producer()
    for value, key in ((b"a", None), (None, b"gone"), (b"c", b"k")):
        producer.send(topic, value, key=key, partition=0).get(10)
    consumer = mock.consumer(topic)
    records = mock.poll(consumer, 3)
    with otel_pipeline.process(records):
        pass

    pulls = [link for span in telemetry.spans() if span.name.startswith("poll") for link in span.links]
    (batch,) = [span for span in telemetry.spans() if span.attributes.get("messaging.batch.message_count") == 3][-1:]
    for links in (pulls, list(batch.links)):
        ages = [link.attributes.pop("otel_pipeline.delivery.age") for link in links]
        expected = [
            {"messaging.destination.name": topic, "messaging.destination.partition.id": "0", **each} for each in LINKED
        ]
        for each in expected if not with_key else ():
            each.pop("kafka.message.key", None)
        assert [link.attributes for link in links] == expected
        assert all(-1 < age < 60 for age in ages)


REFUSED = ["bad topic!", "", "..", "x" * 300, *(f"bad {at}" for at in range(120))]


@pytest.mark.once  # Older clients refuse other names.
def test_a_name_that_the_client_refuses(telemetry, mock):
    """The operation has failed, nothing was sent: no series of that name, no place taken among the hundred."""
    pipe = telemetry.instrument()
    producer, topic = mock.producer(), mock.topic()
    for name in REFUSED:
        with pytest.raises(ValueError, match=r"[Tt]opic"):
            producer.send(name, b"x")
    producer.send(topic, b"x", partition=0).get(10)
    spans = telemetry.spans()
    telemetry.clear()

    assert [(span.status, span.attributes["error.type"]) for span in spans[:-1]] == [("ERROR", "ValueError")] * len(
        REFUSED
    )
    sent = {point.attributes["messaging.destination.name"]: point.value for point in points(telemetry, "sent.messages")}
    assert sent == {topic: 1}
    failed = {
        point.attributes["messaging.destination.name"]: point.count
        for point in points(telemetry, "operation.duration")
        if "error.type" in point.attributes
    }
    assert failed == {"_other": len(REFUSED)}
    named = {
        point.attributes.get("messaging.destination.name")
        for metric in telemetry.metrics()
        for point in metric.points
        if "messaging.destination.name" in point.attributes
    }
    assert named == {topic, "_other"}
    assert [sent.destination for sent in pipe.health().producers] == [topic]
    assert pipe.status().problems == ()


def points(telemetry, name):
    return telemetry.metric(f"messaging.client.{name}").points


@pytest.mark.parametrize("wanted", [True, False])
def test_a_peer_for_service_maps(telemetry, mock, tmp_path, wanted):
    """The topic's name, on PRODUCER and CONSUMER spans alone, and on no metric."""
    topic = mock.topic()
    configured(telemetry, tmp_path, f"peer_name: {str(wanted).lower()}")
    mock.send(topic, b"a")
    for _record in mock.consumer(topic):
        break
    with otel_pipeline.extract(otel_pipeline.inject(destination="jobs"), destination="jobs"):
        pass

    found = {span.name.split()[0]: span.attributes.get("service.peer.name") for span in telemetry.spans()}
    given = {span.name: span.attributes.get("service.peer.name") for span in telemetry.spans()}
    assert found["poll"] is None
    assert given[f"send {topic}"] == given[f"process {topic}"] == (topic if wanted else None)
    assert given["create jobs"] == given["process jobs"] == ("jobs" if wanted else None)
    assert not any("service.peer.name" in point.attributes for metric in telemetry.metrics() for point in metric.points)


def test_the_cluster_stands_on_a_send_as_soon_as_the_client_knows_it(telemetry):
    """Not from the first acknowledgement on: a producer that is slow to be answered has sent many by then."""
    engine, known = telemetry.instrument()._engine, iter([None, "c1"])
    begin = sender(engine)
    producer = Producer(
        attributes={"messaging.system.name": "kafka"}, names=NAMES, cluster_id=lambda: next(known, "c1")
    )
    sendings = [begin(producer, "orders", None, None, b"x", None) for _ in range(2)]
    found = [sending.span.attributes.get("kafka.cluster.id") for sending in sendings]
    for sending in sendings:
        sending.finish(0, 1)

    assert found == [None, "c1"]
    (point,) = telemetry.metric("messaging.client.sent.messages").points
    assert (point.attributes["kafka.cluster.id"], point.value) == ("c1", 2)
