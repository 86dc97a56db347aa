"""Headers that are not ours, on every client: the application's are merged, others' are read by the member."""

from __future__ import annotations

import time

import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach

import otel_pipeline
from otel_pipeline.engine import pipeline_header

BEGAN_MS = time.time_ns() // 1_000_000 - 3_600_000
OLDER, NEWER = (b"00-%032x-%016x-01" % (at, at) for at in (0xA, 0xB))


def header(**fields):
    said = {"flags": 0, "hops": 3, "environment": "local", "origin_ms": BEGAN_MS, "newest_ms": 0, "path": 5}
    return pipeline_header.encode(**{**said, "producer_id": 2, "sequence": 3, "tag": 4, **fields})


def received(driver, topic):
    reader = driver.reader(topic)
    message = reader.receive_one()
    reader.close()
    return message


@pytest.fixture
def sent(driver):
    """The headers of one message that the application sends with its own, as they are on the broker."""

    def send(headers, members=()):
        topic = driver.topic()

        def act():
            context = None
            for key, value in dict(members).items():
                context = baggage.set_baggage(key, value, context)
            token = None if context is None else attach(context)
            driver.send(topic, b"a", headers=headers)
            if token is not None:
                detach(token)

        driver.inside(act)
        return list(driver.read(received(driver, topic), "headers"))

    return send


def test_the_applications_baggage_and_tracestate_are_merged(instrument, sent):
    """Its entries win; what has nothing of ours beside it goes out byte for byte."""
    instrument()
    alone = sent([("Baggage", b"tenant=acme;p"), ("tracestate", b"a=1"), ("x", b"1")])
    both = dict(sent([("baggage", b"tenant=acme,user=8")], {"user": "7", "plan": "gold"}))

    assert alone[:3] == [("Baggage", b"tenant=acme;p"), ("tracestate", b"a=1"), ("x", b"1")]
    assert [name for name, _ in alone[3:]] == ["traceparent", "otelp"]
    assert both["baggage"] == b"tenant=acme,user=8,plan=gold"


def test_baggage_is_read_by_the_member(driver, instrument):
    """Properties are no part of a value and go on; what does not decode is left out alone."""
    source, target = driver.topic(), driver.topic("next")
    value = b"a=1;p;q=2, b = 2,bad=\xff,junk,name=Jos\xc3\xa9"
    driver.send(source, b"a", headers=[("baggage", value), ("traceparent", OLDER)])
    instrument()
    reader = driver.reader(source)
    seen = []

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            seen.append(dict(baggage.get_all()))
            driver.send(target, b"x")

    reader.loop(handle, 1)
    reader.close()
    written = dict(driver.read(received(driver, target), "headers"))["baggage"]

    assert (seen, written) == ([{"a": "1", "b": "2", "name": "José"}], b"a=1;p;q=2,b=2,name=Jos%C3%A9")


def test_of_two_contexts_the_last_valid_one_is_the_parent(driver, instrument, telemetry):
    """The other is linked: on the process span, on that of a batch, and on a send that hands both on."""
    source, target = driver.topic(), driver.topic("next")
    headers = [("traceparent", each) for each in (OLDER, NEWER, b"not valid")]
    driver.send(source, b"a", headers=headers)
    instrument()
    reader = driver.reader(source)
    message = reader.receive_one()
    with otel_pipeline.process(message, consumer=reader.client):
        pass
    with otel_pipeline.process([message], consumer=reader.client):
        pass
    reader.close()
    driver.send(target, b"x", headers=headers)

    linked = {f"{0xB:032x}", f"{0xA:032x}"}
    spans = telemetry.spans()
    parents = {span.trace_id for span in spans if span.kind == "CONSUMER" and span.parent_span_id}
    assert parents == {f"{0xB:032x}"}
    assert {frozenset(link.trace_id for link in span.links) for span in spans} == {frozenset(linked)}
    assert {span.kind for span in spans} == {"CONSUMER", "CLIENT"}


def test_a_data_flow_header_that_the_application_sends_is_the_flow(instrument, sent):
    """Of a dead letter, a replay, a retry: one hop more, the same origin. One that cannot be read begins here."""
    instrument(environment="production")
    flow, other, last = (
        [pipeline_header.decode(value) for name, value in sent(headers) if name == "otelp"]
        for headers in (
            [("otelp", header()), ("x", b"1")],
            [("otelp", b"not readable")],
            [("otelp", header(hops=7)), ("OTELP", header(hops=8))],
        )
    )

    assert [(read.hops, read.environment, read.origin_ms) for read in flow] == [(4, "local", BEGAN_MS)]
    assert [(read.hops, read.environment) for read in other] == [(1, "production")]
    assert [(read.hops, read.environment) for read in last] == [(9, "local")]


def test_a_message_that_is_sent_again_later_keeps_its_origin(driver, instrument):
    """With its headers, when nothing is in hand any more: where and when its data began."""
    source, target = driver.topic(), driver.topic("again")
    driver.send(source, b"a", headers=[("otelp", header()), ("traceparent", OLDER)])
    instrument(environment="production")
    reader = driver.reader(source)
    kept = reader.receive_many(1)
    reader.close()
    driver.send(target, b"a", headers=list(driver.read(kept[0], "headers")))
    read = pipeline_header.decode(dict(driver.read(received(driver, target), "headers"))["otelp"])

    assert (read.hops, read.environment, read.origin_ms) == (4, "local", BEGAN_MS)


def test_with_a_message_in_hand_its_flow_goes_on(driver, instrument):
    """Whatever the list of the application says."""
    source, target = driver.topic(), driver.topic("next")
    driver.send(source, b"a", headers=[("otelp", header())])
    instrument(environment="production")
    reader = driver.reader(source)

    def handle(message):
        with otel_pipeline.process(message, consumer=reader.client):
            driver.send(target, b"x", headers=[("otelp", header(hops=9, environment="test"))])

    reader.loop(handle, 1)
    reader.close()
    read = pipeline_header.decode(dict(driver.read(received(driver, target), "headers"))["otelp"])

    assert (read.hops, read.environment) == (4, "local")
