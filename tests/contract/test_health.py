"""The health of the data through every client: what a detector can say of it, and that it says nothing else."""

from __future__ import annotations

import threading
import time

import pytest

import otel_pipeline
from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.detectors.order import MISSING, VIOLATIONS
from otel_pipeline.detectors.partition import COMMIT_AHEAD
from otel_pipeline.engine import pipeline_header


@pytest.fixture
def pipeline_flow(telemetry, instrument, monkeypatch):
    """As the plugin's, for this driver's library."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    monkeypatch.setattr(telemetry, "instrument", instrument)
    return PipelineFlow(telemetry)


def lights(flow, destination):
    """State by light of the only flow that is read."""
    (found,) = [each for each in flow.health().flows if each.destination == destination]
    return {name: light.state for name, light in found.lights.items()}


def evidence(flow, destination):
    (found,) = [
        each for each in flow.pipeline._monitoring.evidence() if each.key.destination == destination and each.messages
    ]
    return found


def failure(act, *arguments):
    with pytest.raises(AssertionError) as raised:
        act(*arguments)
    return str(raised.value).split("\n")[0]


def send_as(flow, driver, topic, header, **options):
    """As a producer elsewhere would have: with this header, and nothing of ours."""
    engine = flow.pipeline._engine
    engine.active = False
    driver.send(topic, b"x", headers=[("otelp", header)], **options)
    engine.active = True


def header(*, environment="test", number=0, tag=0, flags=0):
    return pipeline_header.encode(
        flags=flags,
        hops=1,
        environment=environment,
        origin_ms=int(time.time() * 1000),
        newest_ms=0,
        path=1,
        producer_id=77 if number else 0,
        sequence=number,
        tag=tag,
    )


def require_order(driver):
    if driver.can.sequence == "not judged":
        pytest.skip("it delivers in no order")


def handle_all(driver, topic, count):
    """Receive and process; gaps are judged while somebody reads, so the reader stays open."""
    reader = driver.reader(topic)

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            pass

    reader.loop(handle, count)
    return reader


def test_a_healthy_pipeline_passes(anywhere, pipeline_flow):
    """Each assertion with evidence; what this client cannot tell is no success."""
    topic = anywhere.topic()
    anywhere.send_many(topic, [b"%d" % number for number in range(20)])
    handle_all(anywhere, topic, 20)
    pipeline_flow.wait_for_messages(20)

    pipeline_flow.assert_fresh("30s")
    pipeline_flow.assert_fresh("30s", topic, age="delivery")
    if anywhere.can.sequence == "not judged":
        assert "not known: a share group has handed out 20 of 20" in failure(pipeline_flow.assert_in_order, topic)
    elif anywhere.can.sequence == "no":
        assert "20 of 20 messages have no number" in failure(pipeline_flow.assert_in_order, topic)
    else:
        pipeline_flow.assert_in_order(topic)
    pipeline_flow.assert_environment_clean()
    if anywhere.can.sequence == "partition":
        pipeline_flow.assert_nothing_lost()
    elif anywhere.can.sequence == "not judged":
        assert "not known: a share group has handed out 20 of 20" in failure(pipeline_flow.assert_nothing_lost)
    else:
        assert "whether any is missing is not known: 20 of 20" in failure(pipeline_flow.assert_nothing_lost)
    found = lights(pipeline_flow, topic)
    assert found == {
        "fresh": "grey",
        "pace": "green" if anywhere.can.pace else "grey",
        "order": "green" if anywhere.can.sequence == "partition" else "grey",
        "contract": "grey",
        "environment": "green",
    }


def test_what_is_sent_is_delivered(anywhere, pipeline_flow):
    """Acknowledged, by destination; where nothing was sent, nothing is good."""
    assert failure(pipeline_flow.assert_delivered) == "nothing was sent to *"
    topic = anywhere.topic()
    anywhere.send_many(topic, [b"%d" % number for number in range(20)])

    pipeline_flow.assert_delivered(topic)
    (sent,) = pipeline_flow.health().producers
    light = sent.lights["delivered"]
    assert (sent.destination, sent.group, light.state, light.why) == (
        topic,
        None,
        "green",
        "20 messages acknowledged, none failed",
    )


def test_messages_without_numbers_are_no_evidence_of_order(anywhere, pipeline_flow):
    """Sent by somebody who is not instrumented, or who gives no numbers."""
    require_order(anywhere)
    topic, other = anywhere.topic(), anywhere.topic("unnumbered")
    pipeline_flow.pipeline._engine.active = False
    anywhere.send_many(topic, [b"1", b"2"])
    pipeline_flow.pipeline._engine.active = True
    for _ in range(2):
        send_as(pipeline_flow, anywhere, other, header())
    handle_all(anywhere, topic, 2)
    handle_all(anywhere, other, 2)

    assert "only 0 of 2 messages say which number they have (2 without header" in failure(
        pipeline_flow.assert_in_order, topic
    )
    assert "2 of 2 messages have no number" in failure(pipeline_flow.assert_in_order, other)
    assert {lights(pipeline_flow, each)["order"] for each in (topic, other)} == {"grey"}


@pytest.mark.parametrize("kind", ["partition", "destination"])
def test_duplicates_and_disorder_are_named(driver, pipeline_flow, kind):
    """Numbers 1 2 5 4 4, of both kinds, whoever has sent them: of a partition's one is missing besides."""
    require_order(driver)
    topic = driver.topic()
    flags, tag = {
        "partition": (pipeline_header.PER_PARTITION, pipeline_header.tag_of(topic, 0)),
        "destination": (0, pipeline_header.tag_of(topic, None)),
    }[kind]
    for number in (1, 2, 5, 4, 4):
        send_as(pipeline_flow, driver, topic, header(number=number, tag=tag, flags=flags))
    handle_all(driver, topic, 5)

    assert "1 duplicate, 1 reordered of 5 messages" in failure(pipeline_flow.assert_in_order)
    assert ("1 messages are missing: 1 before_broker" in failure(pipeline_flow.assert_nothing_lost)) == (
        kind == "partition"
    )


@pytest.mark.parametrize("looked", [False, True])
def test_a_gap_is_no_success_though_its_consumer_has_closed(driver, pipeline_flow, looked):
    """Whether or not somebody has looked at the lights in between."""
    require_order(driver)
    topic = driver.topic()
    flags, tag = pipeline_header.PER_PARTITION, pipeline_header.tag_of(topic, 0)
    for number in (1, 2, 5):
        send_as(pipeline_flow, driver, topic, header(number=number, tag=tag, flags=flags))
    handle_all(driver, topic, 3).close()
    if looked:
        assert lights(pipeline_flow, topic)["order"] == "amber"

    assert "2 messages are missing: 2 " in failure(pipeline_flow.assert_nothing_lost)


def test_messages_that_a_relay_copied_are_not_judged(driver, pipeline_flow):
    """With the numbers of another destination, of both kinds."""
    require_order(driver)
    topic = driver.topic()
    for number in (1, 9, 1):
        send_as(pipeline_flow, driver, topic, header(number=number, tag=5))
        send_as(pipeline_flow, driver, topic, header(number=number, tag=5, flags=pipeline_header.PER_PARTITION))
    handle_all(driver, topic, 6)

    assert "(0 without header, 0 unreadable, 6 relayed)" in failure(pipeline_flow.assert_in_order)


def test_foreign_messages_are_counted_by_origin(anywhere, pipeline_flow):
    """Flagged where the configuration says nothing."""
    topic = anywhere.topic()
    send_as(pipeline_flow, anywhere, topic, header(environment="production"))
    handle_all(anywhere, topic, 1)

    assert "messages of other environments: 1 production" in failure(pipeline_flow.assert_environment_clean)
    assert lights(pipeline_flow, topic)["environment"] == "amber"


def test_messages_that_are_rejected_raise_where_configuration_says_so(driver, configured):
    """In the loop, or in `process()`; the consumer goes on with the next."""
    pipe = configured("destinations: {'*': {foreign: {production: reject}}}\nhealth: {on_reject: raise}")
    topic = driver.topic()
    pipe._engine.active = False
    for environment in ("production", "test"):
        driver.send(topic, b"x", headers=[("otelp", header(environment=environment))])
    pipe._engine.active = True
    reader = driver.reader(topic)

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            pass

    with pytest.raises(otel_pipeline.ForeignEnvironmentError, match="began in production"):
        reader.loop(handle, 2)
    reader.close()


def test_a_seek_is_no_redelivery(driver, pipeline_flow):
    """Read again because the application wanted to, where the client has a way to."""
    if not driver.can.seek:
        pytest.skip("there is no seek")
    topic = driver.topic()
    driver.send_many(topic, [b"%d" % number for number in range(10)])
    reader = driver.reader(topic)
    reader.receive_many(10)
    reader.seek(5)
    reader.receive_many(5)
    reader.close()
    found = evidence(pipeline_flow, topic).counts

    assert {kind: count for kind, count in found.of(VIOLATIONS).items() if count} == {("rewound",): 5}
    assert not any(found.of(MISSING).values())


def test_pace_is_known_where_the_client_tells(driver, pipeline_flow):
    """And unknown, never good, where it does not."""
    topic = driver.topic()
    driver.send_many(topic, [b"%d" % number for number in range(20)])
    reader = driver.reader(topic)
    reader.receive_many(5)
    flows = pipeline_flow.pipeline._monitoring.flows
    (pace,) = [each.pace for each in flows.now() if each.flow.key.destination == topic]
    state = lights(pipeline_flow, topic)["pace"]
    reader.close()

    assert (pace.assigned, pace.lag, state) == ((1, 15, "amber") if driver.can.pace else (0, None, "grey"))


def test_commits_have_a_duration_and_no_span(driver, instrument, telemetry):
    """Or acknowledgements, by the client's own word."""
    topic = driver.topic()
    instrument()
    driver.send(topic, b"a")
    reader = driver.reader(topic, group="readers")
    reader.receive_one()
    telemetry.clear()
    reader.commit()
    settled = [
        (point.count, point.attributes.get("messaging.consumer.group.name"))
        for point in telemetry.metric("messaging.client.operation.duration").points
        if point.attributes.get("messaging.operation.type") == "settle"
    ]
    spans = telemetry.spans()
    reader.close()

    assert (settled, spans) == ([(1, "readers" if driver.can.groups else None)] if driver.can.commit else [], [])


def test_a_commit_ahead_of_processing_is_counted_where_it_can_be(driver, pipeline_flow):
    """Two messages are in threads' hands when the group's position is set past them."""
    topic = driver.topic()
    driver.send_many(topic, [b"1", b"2", b"3"])
    reader = driver.reader(topic)
    messages = reader.receive_many(3)
    go, begun = threading.Event(), threading.Barrier(3)

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            begun.wait(10)
            go.wait(10)

    with otel_pipeline.process(messages[0], consumer=reader.client):
        pass
    threads = [threading.Thread(target=handle, args=(message,)) for message in messages[1:]]
    for thread in threads:
        thread.start()
    begun.wait(10)
    reader.commit()
    go.set()
    for thread in threads:
        thread.join()
    reader.close()

    assert evidence(pipeline_flow, topic).counts[COMMIT_AHEAD] == (2 if driver.can.commit_ahead else 0)


def test_a_contract_is_checked_on_both_sides(driver, telemetry, instrument, tmp_path, monkeypatch):
    """The value as it is sent, and as it is received."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    topic = driver.topic()
    table = {"$": Field(("object",), True), "id": Field(("int",), True)}
    (tmp_path / f"{topic}.json").write_text(Contract(topic, table).dumps())
    monkeypatch.setenv("OTEL_PIPELINE_CONTRACTS_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(telemetry, "instrument", instrument)
    flow = PipelineFlow(telemetry)
    driver.send_many(topic, [b'{"id": 1}', b'{"id": 2}'])
    reader = driver.reader(topic)
    reader.receive_many(2)
    flow.assert_contract(topic)
    driver.send(topic, b'{"id": "3"}')
    reader.receive_many(1)
    reader.close()

    assert failure(flow.assert_contract, topic) == f"{topic}: 2 type_changed: id type_changed"
    assert lights(flow, topic)["contract"] == "red"


@pytest.mark.filterwarnings("ignore:value_(de)?serializer does not implement:DeprecationWarning")
def test_values_that_the_deserializer_does_not_take(driver, telemetry, instrument, tmp_path, monkeypatch):
    """The application gets its own exception, and it is counted."""
    if not driver.can.unreadable:
        pytest.skip("there are no deserializers")
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    topic = driver.topic()
    (tmp_path / f"{topic}.json").write_text(Contract(topic, {"$": Field(("object",), True)}).dumps())
    monkeypatch.setenv("OTEL_PIPELINE_CONTRACTS_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(telemetry, "instrument", instrument)
    flow = PipelineFlow(telemetry)
    driver.send(topic, b"{}")

    def deserializer(value):
        raise ValueError(f"of the application: {value!r}")

    reader = driver.reader(topic, deserializer=deserializer)
    with pytest.raises(Exception) as raised:
        reader.receive_one()
    reader.close()

    assert "of the application: b'{}'" in f"{raised.value} {raised.value.__cause__}"
    assert failure(flow.assert_contract, topic) == f"{topic}: 1 unreadable: $ unreadable"
