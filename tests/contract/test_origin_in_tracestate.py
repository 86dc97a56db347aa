"""`propagate_origin: tracestate`, on every client: where data began comes through services that know nothing of it."""

from __future__ import annotations

import time

import pytest
from opentelemetry.context import attach, detach

import otel_pipeline
from otel_pipeline.engine import origin_state, pipeline_header
from otel_pipeline.engine.pipeline_propagator import PipelinePropagator


def received(driver, topic, count=1):
    reader = driver.reader(topic)
    found = [dict(driver.read(message, "headers")) for message in reader.receive_many(count)]
    reader.close()
    return found


def said(headers):
    """What the member says: environment and origin."""
    read = pipeline_header.decode(origin_state.in_headers([headers.get("tracestate", b"")]))
    return None if read is None else (read.environment, read.origin_ms)


def test_off_by_default(driver, instrument):
    """Then nothing of ours stands in `tracestate`."""
    topic = driver.topic()
    instrument(environment="staging")
    driver.send(topic, b"a")

    assert "tracestate" not in received(driver, topic)[0]


@pytest.mark.parametrize("rate", [1.0, 0.0])
def test_the_origin_comes_through_a_service_without_this_package(driver, configured, instrument, rate):
    """Which hands on `traceparent` and `tracestate` alone. Recorded or not, in one message or in a batch."""
    source, target = driver.topic(), driver.topic("next")
    pipe = configured(f"propagate_origin: tracestate\nsample_rate: {rate}", environment="local")
    driver.send(source, b"a", headers=[("tracestate", b"app=1")])
    (sent,) = received(driver, source)
    pipe.uninstrument()
    for _ in range(2):
        driver.send(target, b"a", headers=[(name, sent[name]) for name in ("traceparent", "tracestate")])
    instrument(environment="production")
    reader = driver.reader(target)
    messages, seen = reader.receive_many(2), []
    for given in (messages[0], messages):
        with otel_pipeline.process(given, consumer=reader.client):
            seen.append(otel_pipeline.current())
    reader.close()

    assert (said(sent)[0], sent["tracestate"].endswith(b",app=1")) == ("local", True)
    assert [(each.origin_environment, each.hops) for each in seen] == [("local", 1)] * 2
    assert [each.data_age is None for each in seen] == [False] * 2


def test_what_rests_on_a_message_says_its_origin(driver, configured):
    """And not when it was sent itself; a member that came along is replaced, a context of the application's is not."""
    source, target = driver.topic(), driver.topic("next")
    began_ms = time.time_ns() // 1_000_000 - 60_000
    header = {"flags": 0, "hops": 3, "environment": "my-own", "origin_ms": began_ms, "newest_ms": 0, "path": 5}
    header = pipeline_header.encode(**header, producer_id=2, sequence=3, tag=4)
    own = [("traceparent", b"00-%032x-%016x-01" % (7, 8)), ("tracestate", b"app=1")]
    theirs = ("traceparent", b"00-%032x-%016x-01" % (5, 6))
    driver.send(source, b"a", headers=[("otelp", header), theirs, ("tracestate", b"otelp=old,b=2")])
    configured("propagate_origin: tracestate", environment="production")
    reader = driver.reader(source)

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            driver.send(target, b"x")
            driver.send(target, b"x", headers=list(own))

    reader.loop(handle, 1)
    reader.close()
    written, kept = received(driver, target, 2)

    assert (said(written), written["tracestate"].endswith(b",b=2")) == (("my-own", began_ms), True)
    assert kept["tracestate"] == b"app=1"


def test_a_requests_header_reaches_a_message(driver, instrument):
    """What an incoming request says, through OpenTelemetry's propagators, is said on: the same origin, one hop more."""
    topic = driver.topic()
    instrument(environment="production")
    began_ms = time.time_ns() // 1_000_000 - 60_000
    header = {"flags": 0, "hops": 1, "environment": "local", "origin_ms": began_ms, "newest_ms": 0, "path": 5}
    header = pipeline_header.encode(**header, producer_id=0, sequence=0, tag=0).decode()

    def serve():
        token = attach(PipelinePropagator().extract({"otelp": header}))
        driver.send(topic, b"a")
        detach(token)

    driver.inside(serve)
    read = pipeline_header.decode(received(driver, topic)[0]["otelp"])

    assert (read.hops, read.environment, read.origin_ms) == (2, "local", began_ms)
