"""Ages over hops, joins and decisions, policies, and what broken clocks and forged headers cannot do."""

from __future__ import annotations

import base64
import time

import pytest

import otel_pipeline
from otel_pipeline.detectors.partition import HEADER_OK, HEADER_UNREADABLE
from otel_pipeline.engine import pipeline_header

YEAR_3000_MS = 32_503_680_000_000


@pytest.fixture
def configured(telemetry, tmp_path):
    """A function that instruments with a configuration file and the machine's clocks; gives the pytest flow."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    def begin(text):
        (tmp_path / "otel_pipeline.yaml").write_text(f"version: 1\n{text}\n")
        telemetry.real_time()
        telemetry.instrument(config_file=tmp_path / "otel_pipeline.yaml")
        return PipelineFlow(telemetry)

    return begin


def header(*, age_s=0.0, environment="test", origin_ms=None, sequence=0, tag=0, flags=0):
    return pipeline_header.encode(
        flags=flags,
        hops=1,
        environment=environment,
        origin_ms=int((time.time() - age_s) * 1000) if origin_ms is None else origin_ms,
        newest_ms=0,
        path=1,
        producer_id=7,
        sequence=sequence,
        tag=tag,
    )


def send_as(flow, mock, topic, value, **fields):
    """As a producer elsewhere would have: with this header, and nothing of ours."""
    engine = flow.pipeline._engine
    engine.active = False
    mock.producer().send(topic, b"x", headers=[("otelp", value)], partition=0, **fields).get(10)
    engine.active = True


def points(telemetry, name, *attributes):
    """Value by these attributes, zeros left out."""
    metric = telemetry.metric(name)
    return {
        tuple(point.attributes.get(each) for each in attributes): point.value or point.count
        for point in (metric.points if metric else ())
        if point.value or point.count
    }


def test_the_age_of_data_goes_on_over_hops_and_into_the_decision(configured, telemetry, mock):
    """Sixty seconds old at the first hop: so at the second, and at the model call."""
    flow = configured(
        "objectives:\n"
        "  decisions_fresh: {model: churn, threshold: 50s, objective: 0.99}\n"
        "  lax: {model: churn, threshold: 2m, objective: 0.99}\n"
    )
    first, second = mock.topic("raw"), mock.topic("features")
    send_as(flow, mock, first, header(age_s=60))
    producer = mock.producer()
    for _record in mock.consumer(first, group_id="features"):
        producer.send(second, b"y", partition=0).get(10)
        break
    for _record in mock.consumer(second, group_id="scorer"):
        with otel_pipeline.inference("churn"):
            pass
        break

    ages = {
        destination: telemetry.metric("otel_pipeline.data.age").points[at].sum
        for at, destination in enumerate((first, second))
    }
    assert all(60 <= age < 90 for age in ages.values()), ages
    (decision,) = telemetry.metric("otel_pipeline.decision.age").points
    assert 60 <= decision.sum < 90
    assert decision.attributes == {
        "otel_pipeline.model.name": "churn",
        "messaging.destination.name": second,
    }
    assert points(telemetry, "otel_pipeline.slo.events", "otel_pipeline.slo.name", "otel_pipeline.slo.met") == {
        ("decisions_fresh", "false"): 1,
        ("lax", "true"): 1,
    }
    lights = {each.destination: each.lights["fresh"] for each in flow.health().flows if each.group == "scorer"}
    assert "0 % of 1 decisions used data younger than 50 s" in lights[second].why


def test_require_fresh_keeps_old_data_from_a_decision(configured, telemetry, mock):
    """Raised, or flagged on the span; each check is counted."""
    flow = configured("")
    topic = mock.topic()
    send_as(flow, mock, topic, header(age_s=60))
    send_as(flow, mock, topic, header())

    @otel_pipeline.require_fresh("30s")
    def decide():
        return "decided"

    consumer = mock.consumer(topic)
    old, new = next(consumer), None
    with otel_pipeline.process(old, consumer=consumer):
        with pytest.raises(otel_pipeline.StaleDataError, match=r"is 6\d(\.\d+)? s old; at most 30 s is allowed"):
            decide()
        assert otel_pipeline.require_fresh("30s", "flag").check().stale
    new = next(consumer)
    with otel_pipeline.process(new, consumer=consumer), otel_pipeline.require_fresh("30s") as checked:
        assert (decide(), checked.stale) == ("decided", False)
    consumer.close()
    otel_pipeline.require_fresh("30s").check()

    assert points(telemetry, "otel_pipeline.slo.events", "otel_pipeline.slo.met") == {
        ("false",): 2,
        ("true",): 2,
        ("unknown",): 1,
    }
    flagged = [span.attributes.get("otel_pipeline.data.stale") for span in telemetry.spans() if span.kind == "CONSUMER"]
    assert flagged == [True, False]


@pytest.mark.parametrize("threshold", ["soon", "", 0, -1, "0s"])
def test_a_threshold_that_is_none_is_refused(threshold):
    """When the code is loaded, not when it decides."""
    with pytest.raises(ValueError, match="give"):
        otel_pipeline.require_fresh(threshold)


def test_a_join_is_as_old_as_its_oldest_input(configured, mock):
    """A profile from a minute ago, kept beside its value, and an order in hand."""
    flow = configured("")
    profiles, orders = mock.topic("profiles"), mock.topic("orders")
    send_as(flow, mock, profiles, header(age_s=60))
    send_as(flow, mock, orders, header())
    kept = None
    for _record in mock.consumer(profiles):
        kept = otel_pipeline.flow.capture()
        break
    for _record in mock.consumer(orders):
        assert otel_pipeline.current().data_age < 30
        with otel_pipeline.flow.joined(kept) as joined:
            assert (60 <= joined.age_s < 90, joined.origin.inputs) == (True, 2)
            assert otel_pipeline.require_fresh("30s", "flag").check().stale
            out = mock.topic("out")
            mock.producer().send(out, b"z", partition=0).get(10)
        assert otel_pipeline.current().data_age < 30, "left again"
        otel_pipeline.flow.input("weather", age_s=300)
        assert 300 <= otel_pipeline.current().data_age < 330
        otel_pipeline.flow.input("cache")
        assert otel_pipeline.current().data_age is None, "of unknown age: so is the whole"
        break
    (record,) = mock.poll(mock.consumer(out), 1)
    sent = pipeline_header.decode(dict(record.headers)["otelp"])
    assert (60_000 <= time.time() * 1000 - sent.origin_ms < 90_000, bool(sent.flags & pipeline_header.FAN_IN)) == (
        True,
        True,
    )


def test_what_was_captured_outside_of_a_message_is_of_unknown_age(configured):
    """And makes a join unknown, never young."""
    configured("")
    nothing = otel_pipeline.flow.capture()

    assert nothing.age_s is None
    with otel_pipeline.flow.joined(nothing) as joined:
        assert joined.age_s is None


@pytest.mark.parametrize(("on_reject", "seen"), [("flag", 2), ("raise", 1)])
def test_messages_that_are_rejected(configured, telemetry, mock, on_reject, seen):
    """Counted by origin and policy; raised in the loop where the configuration says so."""
    flow = configured(
        f"destinations: {{'*': {{foreign: {{production: reject, staging: allow}}}}}}\nhealth: {{on_reject: {on_reject}}}"
    )
    topic = mock.topic()
    for environment in ("staging", "production"):
        send_as(flow, mock, topic, header(environment=environment))
    handled, raised = 0, ""
    try:
        for _record in mock.consumer(topic):
            handled += 1
            if handled == 2:
                break
    except otel_pipeline.ForeignEnvironmentError as error:
        raised = str(error)

    assert (handled, raised.startswith("a message that began in production reached test, ")) == (seen, seen == 1)
    assert points(
        telemetry,
        "otel_pipeline.messages.foreign_environment",
        "otel_pipeline.origin.environment",
        "otel_pipeline.policy",
    ) == {("staging", "allow"): 1, ("production", "reject"): 1}
    light = next(each.lights["environment"] for each in flow.health().flows)
    assert (light.state, light.why) == ("red", "messages that may not come here: 1 from production")


def test_broken_clocks_and_forged_headers_are_counted_and_harm_nothing(configured, telemetry, mock):
    """Times of 0, the past, the year 3000; headers that are cut, of another version, no base64, somebody else's."""
    flow = configured("")
    topic = mock.topic()
    good = header()
    version_9 = base64.urlsafe_b64encode(b"\x09" + base64.urlsafe_b64decode(good)[1:])
    for value in (
        header(origin_ms=YEAR_3000_MS),
        header(origin_ms=0),
        header(origin_ms=1),
        good[:20],
        version_9,
        b"\xff" * 40,
        b"",
        good,
    ):
        send_as(flow, mock, topic, value)
    send_as(flow, mock, topic, good, timestamp_ms=YEAR_3000_MS)
    send_as(flow, mock, topic, good, timestamp_ms=1)
    for handled, _record in enumerate(mock.consumer(topic), start=1):
        if handled == 10:
            break
    (evidence,) = [each for each in flow.pipeline._monitoring.evidence() if each.messages]

    assert (evidence.messages, evidence.counts[HEADER_OK], evidence.counts[HEADER_UNREADABLE]) == (10, 6, 4)
    assert points(telemetry, "otel_pipeline.clock.negative_ages") == {(): 1}
    assert -1 < evidence.freshness.staleness_s < 60, "one message from the future does not hide that nothing comes"
    assert flow.pipeline.status().errors == {}


def test_topics_by_the_thousand_are_bounded(configured, telemetry, mock):
    """The first have a series of their own; the others are one, and it is said once."""
    from otel_pipeline.detectors.flows import MAX_FLOWS
    from otel_pipeline.engine.clients import Consumer

    flow = configured("")
    engine, flows = flow.pipeline._engine, flow.pipeline._monitoring.flows
    fields = next(iter(engine.clients.values())).fields
    consumer = Consumer(
        engine,
        fields,
        attributes={"messaging.system.name": "kafka"},
        client_id=None,
        group="g",
        excluded=False,
        operation="poll",
    )
    for number in range(3000):
        consumer.partition(f"topic-{number}", 0)
        consumer.fetch_observer(f"topic-{number}", 0)
    flows.look()
    telemetry.metrics()

    assert len(flows.every()) == MAX_FLOWS + 1
    assert {evidence.key.destination for evidence in flow.pipeline._monitoring.evidence()} >= {"topic-0", "_other"}
    assert len(flow.pipeline.status().problems) <= 6


def test_what_a_closed_consumer_has_counted_stays(configured, telemetry, mock):
    """Sums never fall."""
    flow = configured("")
    topic = mock.topic()
    send_as(flow, mock, topic, header(environment="production"))
    for _ in range(3):
        consumer = mock.consumer(topic)
        mock.poll(consumer, 1)
        consumer.close()
        del consumer

    assert points(telemetry, "otel_pipeline.messages.foreign_environment") == {(): 3}


def test_a_clock_that_was_set_is_told_to_all_that_rests_on_it(configured, telemetry, mock):
    """Over two hops, one by one, in a batch and in a join: no decision is met or missed by its times."""
    flow = configured("objectives:\n  fresh: {model: churn, threshold: 30s, objective: 0.99}\n")
    raw, features, scores = mock.topic("raw"), mock.topic("features"), mock.topic("scores")
    clock, producer = flow.pipeline._monitoring.flows.clock, mock.producer()
    clock.look()
    clock._wall_s = lambda: time.time() - 3_600
    assert clock.is_off()
    producer.send(raw, b"wrong", partition=0).get(10)
    clock._wall_s = time.time
    clock.look()
    producer.send(raw, b"right", partition=0).get(10)
    kept = {}
    for record in mock.consumer(raw):
        kept[record.value] = otel_pipeline.flow.capture()
        with otel_pipeline.inference("churn"):
            pass
        producer.send(features, record.value, partition=0).get(10)
        if record.value == b"right":
            with otel_pipeline.flow.joined(kept[b"wrong"]):
                producer.send(features, b"joined", partition=0).get(10)
            break
    batch = mock.poll(mock.consumer(features), 3)
    producer.send(scores, b"batch", partition=0).get(10)
    sent = [mock.poll(mock.consumer(topic), count) for topic, count in ((raw, 2), (features, 3), (scores, 1))]

    assert [
        (record.value, bool(pipeline_header.decode(dict(record.headers)["otelp"]).flags & pipeline_header.DOUBTED))
        for records in sent
        for record in records
    ] == [
        (b"wrong", True),
        (b"right", False),
        (b"wrong", True),
        (b"right", False),
        (b"joined", True),
        (b"batch", True),
    ]
    assert len(batch) == 3
    assert points(telemetry, "otel_pipeline.slo.events", "otel_pipeline.slo.met") == {("unknown",): 1, ("true",): 1}
