"""The data's health through the real client: what a test of the pipeline asks, on both brokers."""

from __future__ import annotations

import json
import threading
import time

import pytest
from kafka import KafkaProducer, TopicPartition

import otel_pipeline
from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.detectors.keys_in_hand import CONCURRENT_KEY
from otel_pipeline.detectors.order import MISSING, REWOUND, VIOLATIONS

JSON = {"value_deserializer": json.loads}
plain_functions = pytest.mark.filterwarnings("ignore:value_(de)?serializer does not implement:DeprecationWarning")


@pytest.fixture
def pipeline_flow(telemetry):
    """As the plugin's, on this folder's two kinds of telemetry."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    return PipelineFlow(telemetry)


@pytest.fixture
def contracts(tmp_path, monkeypatch):
    """A function that puts a contract into the folder that the configuration names."""
    monkeypatch.setenv("OTEL_PIPELINE_CONTRACTS_DIRECTORY", str(tmp_path))

    def put(topic, **fields):
        table = {"$": Field(("object",), True), **{name: Field((kind,), True) for name, kind in fields.items()}}
        (tmp_path / f"{topic}.json").write_text(Contract(topic, table).dumps())

    return put


def lights(flow):
    """State by light of the only flow that is read."""
    (found,) = [each for each in flow.health().flows if each.group]
    return {name: light.state for name, light in found.lights.items()}


def failure(act, *arguments, **keywords):
    with pytest.raises(AssertionError) as raised:
        act(*arguments, **keywords)
    return str(raised.value).split("\n")[0]


def test_no_evidence_is_no_success(pipeline_flow):
    """Nothing has flowed."""
    assert failure(pipeline_flow.assert_fresh, "1s") == (
        "no data age was measured for *: nothing was processed, or no clock is known"
    )
    assert failure(pipeline_flow.assert_in_order) == "no message of * reached a consumer"
    assert failure(pipeline_flow.assert_nothing_lost, "orders") == "no message of orders reached a consumer"
    assert failure(pipeline_flow.assert_contract, "orders").startswith("orders has no contract file; ")


def test_old_data_is_not_fresh(pipeline_flow, kafka):
    """Each age counts, not their mean."""
    topic = kafka.topic()
    kafka.send(topic, b"1")
    consumer = kafka.consumer(topic)
    for _record in consumer:
        time.sleep(0.3)
        break

    assert failure(pipeline_flow.assert_fresh, "200ms").startswith("the oldest of 1 data ages was ")
    pipeline_flow.assert_fresh("30s")


def test_a_lost_tail_is_found_by_what_was_given(pipeline_flow, kafka):
    """Two numbers are given and never arrive: no gap shows it."""
    topic = kafka.topic()
    kafka.send(topic, b"1", b"2", b"3")
    for given in pipeline_flow.pipeline._engine.given:  # One for each library.
        for key in [key for key in given() if key[1] == topic]:
            given.__self__._counts[key].last += 2
    kafka.poll(kafka.consumer(topic), 3)

    pipeline_flow.assert_in_order()
    assert failure(pipeline_flow.assert_nothing_lost) == f"{topic}: the last 2 messages sent have not come"


def test_a_partition_of_which_nothing_comes_is_looked_at_too(pipeline_flow, kafka):
    """Where it is assigned: what was sent to it has not come."""
    topic, other = kafka.topic(), kafka.topic("other")
    kafka.send(topic, b"1")
    kafka.send(other, b"1", b"2")
    kafka.poll(kafka.consumer(topic), 1)
    pipeline_flow.assert_nothing_lost()

    consumer = kafka.consumer(other)
    consumer.seek_to_end(TopicPartition(other, 0))
    deadline = time.monotonic() + 20
    while not any(
        flow.pace.live() for flow in pipeline_flow.pipeline._monitoring.flows.every() if flow.key[1] == other
    ):
        assert consumer.poll(100) == {}
        assert time.monotonic() < deadline
    assert failure(pipeline_flow.assert_nothing_lost) == f"{other}: the last 2 messages sent have not come"


@plain_functions
def test_a_contract_is_checked_on_both_sides(telemetry, kafka, contracts):
    """The object before the serializer and after the deserializer."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    topic = kafka.topic()
    contracts(topic, id="int", amount="float")
    flow = PipelineFlow(telemetry)
    producer = kafka.producer(value_serializer=lambda value: json.dumps(value).encode())
    for value in ({"id": 1, "amount": 2.5}, {"id": 2, "amount": 3}):
        producer.send(topic, value, partition=0).get(10)
    consumer = kafka.consumer(topic, **JSON)
    kafka.poll(consumer, 2)
    flow.assert_contract(topic)

    producer.send(topic, {"id": "3"}, partition=0).get(10)
    kafka.poll(consumer, 1)
    assert failure(flow.assert_contract, topic) == (
        f"{topic}: 2 field_missing, 2 type_changed: amount field_missing, id type_changed"
    )
    assert lights(flow)["contract"] == "red"
    metric = telemetry.metric("otel_pipeline.contract.violations")
    counted = {
        (point.attributes["otel_pipeline.side"], point.attributes["otel_pipeline.kind"]): point.value
        for point in metric.points
        if point.value
    }
    assert counted == {
        ("producer", "field_missing"): 1,
        ("producer", "type_changed"): 1,
        ("consumer", "field_missing"): 1,
        ("consumer", "type_changed"): 1,
    }


def test_pace_is_known_from_fetches(pipeline_flow, kafka):
    """Twenty sent, five read: fifteen behind; the position is the client's own."""
    topic = kafka.topic()
    kafka.send(topic, *(b"%d" % number for number in range(20)))
    consumer = kafka.consumer(topic, max_poll_records=5)
    kafka.poll(consumer, 5)
    flows = pipeline_flow.pipeline._monitoring.flows
    (found,) = [now.pace for now in flows.now()]

    (of,) = found.consumers
    assert (found.assigned, found.lag, of.behind - of.in_hand, of.in_hand > 0, of.only_polled) == (
        1,
        15,
        15,
        True,
        True,
    )
    kafka.poll(consumer, 15)
    deadline = time.monotonic() + 10
    while flows.now()[0].pace.lag != 0:
        assert time.monotonic() < deadline
        consumer.poll(100)
    consumer.poll(0)  # What was handed out last is processed when more is asked for.
    assert flows.now()[0].pace.caught_up_age_s < 10
    offsets = {
        name: pipeline_flow.telemetry.metric(f"otel_pipeline.{name}.offset").points[0].value
        for name in ("producer", "consumer")
    }
    assert offsets == {"producer": 19, "consumer": 19}
    consumer.close()
    assert flows.now()[0].pace.assigned == 0


def test_a_seek_is_no_loss(pipeline_flow, kafka):
    """Back, forward, to the beginning and to the end."""
    from kafka import TopicPartition

    topic = kafka.topic()
    kafka.send(topic, *(b"%d" % number for number in range(20)))
    consumer = kafka.consumer(topic)
    partition = TopicPartition(topic, 0)
    kafka.poll(consumer, 20)
    consumer.seek(partition, 5)
    kafka.poll(consumer, 15)
    consumer.seek_to_beginning(partition)
    kafka.poll(consumer, 20)
    consumer.seek_to_end()
    assert consumer.position(partition) == 20
    kafka.send(topic, b"20")
    deadline = time.monotonic() + 10
    while not consumer.poll(200):
        assert time.monotonic() < deadline
    (evidence,) = pipeline_flow.pipeline._monitoring.evidence()

    assert {label: count for label, count in evidence.counts.items() if label.measure is VIOLATIONS and count} == {
        REWOUND: 35
    }
    assert not any(evidence.counts.of(MISSING).values())


@pytest.mark.parametrize("before", [1, 2])
def test_a_partition_that_is_taken_away_and_comes_back_is_no_redelivery(pipeline_flow, mock, before):
    """It was never committed, so it begins anew: also after a single poll."""
    topic = mock.topic()
    mock.send(topic, *(b"%d" % number for number in range(6)))
    consumer = mock.consumer(topic, max_poll_records=1)
    mock.poll(consumer, before)
    consumer.assign([])
    consumer.assign([TopicPartition(topic, 0)])
    mock.poll(consumer, 6)
    (evidence,) = pipeline_flow.pipeline._monitoring.evidence()

    assert evidence.messages == before + 6
    assert not any(evidence.counts.of(VIOLATIONS).values())


def test_client_settings_that_can_lose_data_are_said(pipeline_flow, mock):
    """At a client's first use, without any traffic."""
    topic = mock.topic()
    # Old clients have no idempotence to switch off.
    off = {"enable_idempotence": False} if "enable_idempotence" in KafkaProducer.DEFAULT_CONFIG else {}
    mock.producer(acks=1, retries=3, **off).send(topic, b"x", partition=0).get(10)
    consumer = mock.consumer(topic, enable_auto_commit=True, auto_offset_reset="latest")
    consumer.poll(0)
    found = {
        point.attributes["otel_pipeline.hazard"]
        for point in pipeline_flow.telemetry.metric("otel_pipeline.client.hazard").points
    }

    assert {"acknowledged_by_leader_only", "retries_repeat", "new_group_skips_history", "commits_by_time"} <= found


def test_messages_with_the_same_key_at_the_same_time_are_counted_on_request(telemetry, mock, tmp_path):
    """Two of three threads have the same key in hand; the third has another one."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    (tmp_path / "otel_pipeline.yaml").write_text("version: 1\ndestinations: {'*': {same_key: true}}\n")
    telemetry.instrument(config_file=tmp_path / "otel_pipeline.yaml")
    flow = PipelineFlow(telemetry)
    topic = mock.topic()
    producer = mock.producer()
    for key in (b"a", b"a", b"b"):
        producer.send(topic, b"x", key=key, partition=0).get(10)
    consumer = mock.consumer(topic)
    records = mock.poll(consumer, 3)
    begun = threading.Barrier(3)

    def handle(record):
        with otel_pipeline.process(record, consumer=consumer):
            begun.wait(10)

    threads = [threading.Thread(target=handle, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with otel_pipeline.process(records[0], consumer=consumer):
        pass
    (evidence,) = flow.pipeline._monitoring.evidence()

    assert evidence.counts[CONCURRENT_KEY] == 1


def test_ranges_of_fields_are_kept_on_request_only(telemetry, mock, tmp_path):
    """Values: none by default."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    topic = mock.topic()
    (tmp_path / "otel_pipeline.yaml").write_text(f"version: 1\ndestinations: {{{topic}: {{fields: [amount]}}}}\n")
    telemetry.instrument(config_file=tmp_path / "otel_pipeline.yaml")
    flow = PipelineFlow(telemetry)
    mock.send(topic, b'{"amount": 3}', b'{"amount": null}', b'{"amount": -1.5}', b'{"amount": 2}')
    mock.poll(mock.consumer(topic), 4)
    other = mock.topic()
    mock.send(other, b'{"amount": 3}')
    mock.poll(mock.consumer(other), 1)
    contracts = flow.pipeline._monitoring.contracts

    assert contracts.evidence(topic, "consumer").fields == {
        "amount null_rate": 0.25,
        "amount minimum": -1.5,
        "amount maximum": 3.0,
    }
    assert contracts.evidence(other, "consumer").fields == {}
