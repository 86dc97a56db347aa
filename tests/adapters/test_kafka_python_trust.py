"""A laptop and production on one topic: who is followed, who is recorded, and what is linked only."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

import otel_pipeline
from otel_pipeline.engine.spans import TracerSpans
from otel_pipeline.export.compiled_spans import CompiledSpans

RATIO = TraceIdRatioBased(0.01)


@pytest.fixture
def run(telemetry, tmp_path, monkeypatch):
    """run(environment, root sampler, configuration): from now on this process is that one; returns its pipeline."""
    compiled = type(telemetry.tracer_provider.id_generator) is RandomIdGenerator
    # Counted ids are so low that each of them is among the 1 %.
    monkeypatch.setattr(telemetry.ids, "generate_trace_id", RandomIdGenerator().generate_trace_id)
    pipes = []

    def become(environment, root, configuration="version: 1"):
        for pipe in pipes:
            pipe.uninstrument()
        telemetry.clear()
        if compiled:
            telemetry.tracer_provider.sampler = ParentBased(root)
        else:
            telemetry.sample(ParentBased(root))
        file = tmp_path / f"{len(pipes)}.yaml"
        file.write_text(configuration)
        pipes.append(telemetry.instrument(environment=environment, config_file=file))
        assert isinstance(pipes[-1]._engine.spans, CompiledSpans if compiled else TracerSpans)
        return pipes[-1]

    return become


def processed(telemetry):
    return [span for span in telemetry.spans() if span.name.startswith("process")]


def trace_ids(telemetry):
    """The trace ids of the messages that were sent."""
    return [span.trace_id for span in telemetry.spans() if span.name.startswith("send")]


def handle(mock, topic, count, *, before=lambda _at: None, act=lambda _record: None):
    """A plain loop over the messages."""
    consumer = mock.consumer(topic)
    before(0)
    for at, record in enumerate(consumer, start=1):
        act(record)
        if at == count:
            break
        before(at)
    consumer.close()


def test_a_laptop_cannot_make_production_record_everything(telemetry, mock, run):
    """At most one of its traces a second, and the 1 % of all others: 100 % without this."""
    topic, count = mock.topic(), 400
    run("local", ALWAYS_ON)
    mock.send(topic, *[b"%d" % at for at in range(count)])
    ids = trace_ids(telemetry)
    pipe = run("production", RATIO)
    begun_ns = telemetry._now_ns

    def second_half(at):
        if at == count // 2:
            telemetry._now_ns += 10**9

    handle(mock, topic, count, before=second_half)

    seconds = (telemetry._now_ns - begun_ns) / 1e9
    own = {trace_id for trace_id in ids if int(trace_id[16:], 16) < RATIO.bound}
    followed = {span.trace_id for span in processed(telemetry)} - own
    assert len(set(ids)) == count
    assert own <= {span.trace_id for span in processed(telemetry)}
    assert 2 <= len(followed) <= 1 + seconds
    assert {ids[0], ids[count // 2]} - own <= followed
    assert pipe.status().foreign_not_followed == count - len(own | followed)
    assert f"{count - len(own | followed)} sampled messages not recorded (foreign_sampling)" in str(pipe.status())


def test_elsewhere_the_laptop_is_followed_always(telemetry, mock, run):
    """The limit is production's default only."""
    topic = mock.topic()
    run("local", ALWAYS_ON)
    mock.send(topic, *[b"a"] * 20)
    ids = trace_ids(telemetry)
    pipe = run("staging", ALWAYS_OFF)
    handle(mock, topic, 20)

    assert [span.trace_id for span in processed(telemetry)] == ids
    assert pipe.status().foreign_not_followed == 0


def test_production_follows_its_own_services(telemetry, mock, run):
    """Its traces have no limit, nor have those of services without this package."""
    topic = mock.topic()
    run("production", ALWAYS_ON)
    mock.send(topic, *[b"a"] * 5)
    ids = trace_ids(telemetry)
    run("production", ALWAYS_OFF)
    plain = [b"00-%032x-%016x-01" % (at, at) for at in range(1, 6)]
    for value in plain:
        producer = mock.producer()
        producer.send.__wrapped__(producer, topic, b"a", partition=0, headers=[("traceparent", value)]).get(10)
    handle(mock, topic, 10)

    assert [span.trace_id for span in processed(telemetry)] == [*ids, *(f"{at:032x}" for at in range(1, 6))]


def test_one_trace_id_goes_all_the_way(telemetry, mock, run):
    """Recorded or not, production's own sends carry the laptop's trace id, with the decision; ages and hops appear."""
    first, second = mock.topic(), mock.topic("next")
    run("local", ALWAYS_ON)
    mock.send(first, b"a", b"b")
    ids = trace_ids(telemetry)
    run("production", ALWAYS_OFF)
    producer = mock.producer()
    handle(mock, first, 2, act=lambda record: producer.send(second, record.value, partition=0).get(10))
    (recorded,) = processed(telemetry)
    headers, seen = [], []

    def look(record):
        headers.append(dict(record.headers)["traceparent"].decode())
        seen.append(otel_pipeline.current())

    handle(mock, second, 2, act=look)

    assert [(value[3:35], int(value[-2:], 16) & 1) for value in headers] == [(ids[0], 1), (ids[1], 0)]
    assert (recorded.trace_id, recorded.parent_span_id != "") == (ids[0], True)
    assert recorded.attributes["otel_pipeline.origin.environment"] == "local"
    assert [(found.hops, found.origin_environment, found.data_age is not None) for found in seen] == [
        (2, "local", True)
    ] * 2
    again = processed(telemetry)[-1]
    assert (again.trace_id, again.attributes["otel_pipeline.hops"]) == (ids[0], 2)
    assert {"otel_pipeline.data.age", "otel_pipeline.delivery.age"} <= again.attributes.keys()


def test_trust_none_links_and_begins_anew(telemetry, mock, run):
    """By destination: the other one's trace goes on. Ages and hops are those of the message all the same."""
    open_to_all, own = mock.topic("public"), mock.topic("own")
    run("production", ALWAYS_ON)
    mock.send(open_to_all, b"a")
    mock.send(own, b"b")
    sent = telemetry.spans()
    run("production", ALWAYS_ON, 'destinations: {"public-*": {trust: none}}')
    handle(mock, open_to_all, 1)
    handle(mock, own, 1)

    linked, continued = processed(telemetry)
    assert (linked.parent_span_id, linked.trace_id != sent[0].trace_id) == ("", True)
    assert [(link.trace_id, link.span_id) for link in linked.links] == [(sent[0].trace_id, sent[0].span_id)]
    assert (continued.trace_id, continued.parent_span_id) == (sent[1].trace_id, sent[1].span_id)
    for span in (linked, continued):
        assert span.attributes["otel_pipeline.hops"] == 1
        assert span.attributes["otel_pipeline.origin.environment"] == "production"
        assert {"otel_pipeline.data.age", "otel_pipeline.delivery.age"} <= span.attributes.keys()


def test_same_environment_tells_them_apart_on_one_topic(telemetry, mock, run):
    """The laptop's message begins a trace, production's goes on; both are linked to their senders."""
    topic = mock.topic()
    ids = []
    for environment in ("local", "production"):
        run(environment, ALWAYS_ON)
        mock.send(topic, b"a")
        ids += trace_ids(telemetry)
    run("production", ALWAYS_ON, 'destinations: {"*": {trust: same-environment}}')
    handle(mock, topic, 2)

    foreign, own = processed(telemetry)
    assert (foreign.parent_span_id, foreign.trace_id in ids, own.trace_id) == ("", False, ids[1])
    assert [[link.trace_id for link in span.links] for span in (foreign, own)] == [[ids[0]], [ids[1]]]
    assert [span.attributes["otel_pipeline.origin.environment"] for span in (foreign, own)] == ["local", "production"]


def test_pulls_and_batches_link_to_all_whatever_is_trusted(telemetry, mock, run):
    """They are nobody's children; the laptop's flags do not make production record them."""
    topic = mock.topic()
    run("local", ALWAYS_ON)
    mock.send(topic, b"a", b"b")
    ids = trace_ids(telemetry)
    found = {}
    for name, root in (("on", ALWAYS_ON), ("off", ALWAYS_OFF)):
        run("production", root, 'destinations: {"*": {trust: same-environment}}')
        consumer = mock.consumer(topic)
        with otel_pipeline.process(mock.poll(consumer, 2)):
            pass
        consumer.close()
        found[name] = [[link.trace_id for link in span.links] for span in telemetry.spans()]

    *pulls, batch = found["on"]
    assert [linked for pull in pulls for linked in pull] == ids
    assert (batch, found["off"]) == (ids, [])
