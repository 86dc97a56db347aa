"""quixstreams, which rests on confluent-kafka: no message's work is said to be another's, also where it reads ahead."""

from __future__ import annotations

import itertools
import time

import pytest
from opentelemetry import trace

pytest.importorskip("confluent_kafka")
quixstreams = pytest.importorskip("quixstreams")
from confluent_kafka import Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

pytestmark = [pytest.mark.real, pytest.mark.broker, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
_numbers = itertools.count(1)
_RUN = time.time_ns() // 1_000_000 % 1_000_000
COUNT = 10


@pytest.fixture
def ran(telemetry, real_broker, tmp_path):
    """Runs an application over one topic or two; what its function saw of each message: topic and offset, and the span."""
    telemetry.real_time()
    address = real_broker.bootstrap
    pipe = telemetry.instrument(libraries=["confluent-kafka"])

    def run(topics):
        number = next(_numbers)
        names = [f"in{at}-quix-{_RUN}-{number}" for at in range(topics)]
        target = f"out-quix-{_RUN}-{number}"
        admin = AdminClient({"bootstrap.servers": address})
        for future in admin.create_topics([NewTopic(each, 1, 1) for each in (*names, target)]).values():
            future.result(20)
        producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "log_level": 0})
        for at, name in itertools.product(range(COUNT), names):
            producer.produce(name, b'{"topic": "%s", "offset": %d}' % (name.encode(), at), key=b"k", partition=0)
        producer.flush(20)
        application = quixstreams.Application(
            broker_address=address,
            consumer_group=f"g-{_RUN}-{number}",
            auto_offset_reset="earliest",
            loglevel="CRITICAL",
            state_dir=str(tmp_path / "state"),
        )
        seen = []

        def handle(value):
            span = trace.get_current_span()
            attributes = dict(getattr(span, "attributes", None) or {})
            found = attributes.get("messaging.destination.name"), attributes.get("kafka.offset")
            seen.append(((value["topic"], value["offset"]), getattr(span, "name", ""), found))
            return value

        frames = [application.dataframe(application.topic(name, value_deserializer="json")) for name in names]
        frame = frames[0] if topics == 1 else frames[0].concat(frames[1])
        frame.apply(handle).to_topic(application.topic(target, value_serializer="json"))
        application.run(count=COUNT * topics, timeout=20)
        spans = telemetry.spans()
        return target, seen, spans

    yield run
    assert pipe.status().errors == {}


def test_one_topic_is_one_trace(ran):
    """Its function has the message in hand, and what it sends is its child."""
    target, seen, spans = ran(1)
    by_id = {span.span_id: span for span in spans}
    parents = [by_id[span.parent_span_id].name.split()[0] for span in spans if span.name == f"produce {target}"]

    assert [(found, name.split()[0]) for _, name, found in seen] == [(message, "process") for message, _, _ in seen]
    assert (len(seen), parents) == (COUNT, ["process"] * COUNT)


def test_topics_that_are_read_ahead_have_no_message_of_another_in_hand(ran):
    """Two topics in one frame: what waits in its buffer is in nobody's hand; nothing begins a trace of its own."""
    target, seen, spans = ran(2)
    others = [(message, found) for message, name, found in seen if name.startswith("process") and found != message]
    by_id = {span.span_id: span for span in spans}
    sent = [span for span in spans if span.name == f"produce {target}"]
    creators = {
        (by_id[span.parent_span_id].name.split()[0] if span.parent_span_id in by_id else None, bool(span.links))
        for span in sent
    }

    assert (len(seen), others, len(sent)) == (2 * COUNT, [], 2 * COUNT)
    assert all(kind is not None or linked for kind, linked in creators), creators
