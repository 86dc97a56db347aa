"""Header lists as applications write them: found in any case, in any place, and beside what is no header at all."""

from __future__ import annotations

import time

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_pipeline.engine.batch import Batch
from otel_pipeline.engine.engine import client_attributes, server_of
from otel_pipeline.engine.headers import own_header, own_headers, tolerant, without
from otel_pipeline.engine.origin import Origin
from otel_pipeline.engine.pipeline_header import (
    ENVIRONMENT_CODES,
    EXTENDED,
    FAN_IN,
    PER_PARTITION,
    _fnv1a,
    encode,
    environment_of,
    path_hash,
    tag_of,
)
from otel_pipeline.engine.trace_context import LightLink, LightSpan
from tests.engine.test_trust import Side

NOW_MS = time.time_ns() // 1_000_000
TRACE = b"00-%032x-%016x-01"


@pytest.fixture
def propagation():
    return Side(ALWAYS_ON).engine.propagation


def header(environment="test", hops=1, origin_ms=5):
    said = {"flags": 0, "newest_ms": 0, "path": 3, "producer_id": 1, "sequence": 1, "tag": 1}
    return encode(environment=environment, hops=hops, origin_ms=origin_ms, **said)


def test_the_bits_and_codes_of_the_format():
    """Other languages write and read them: they never change."""
    assert (FAN_IN, PER_PARTITION, EXTENDED) == (2, 8, 32)
    assert ENVIRONMENT_CODES == {
        "local": 1,
        "development": 2,
        "test": 3,
        "staging": 4,
        "preproduction": 5,
        "production": 6,
    }


def test_the_hashes_of_the_format():
    """FNV-1a, of which the low 16 or 48 bits stand in the header."""
    assert [_fnv1a(text) for text in (b"", b"a", b"foobar")] == [
        0xCBF29CE484222325,
        0xAF63DC4C8601EC8C,
        0x85944171F73967E8,
    ]
    assert (tag_of("orders", 0), tag_of("orders", 1)) == (0x97FC, 0x99AF)
    assert (path_hash(0, "ingest", "orders"), path_hash(1, "ingest", "orders")) == (0x9AC7B9454846, 0x6A9A66EBCD03)


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [("test", 3, "test"), ("test", 0, None), ("my-own", 255, "my-own"), (None, 255, None), ("test", 77, None)],
)
def test_the_name_of_an_environment(name, code, found):
    """By its code; of one that is no code by the extension."""
    assert environment_of(None if name is None else header(name), code) == found


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("traceparent", b"a")], b"a"),
        ([("TraceParent", b"a")], b"a"),
        ([("tracexarent", b"x"), ("traceparent", b"a")], b"a"),
        ([("traceparent", b"a"), ("traceparent", b"b")], b"b"),
        ([("traceparent", TRACE % (1, 2)), ("traceparent", b"b")], TRACE % (1, 2)),
        ([("traceparen", b"x")], None),
        ([7, ("traceparent", b"a")], b"a"),
        ({"traceparent": b"a"}, b"a"),
        ([], None),
        (7, None),
    ],
    ids=repr,
)
def test_the_header_with_the_context(propagation, headers, found):
    """In any case, also beside what is no pair; of several the last one that is valid."""
    assert propagation.find(headers) == found


@pytest.mark.parametrize(
    ("headers", "parent"),
    [
        ([("traceparent", TRACE % (1, 2))], 2),
        ([("TRACEPARENT", TRACE % (1, 2))], 2),
        ([("traceparent", TRACE % (1, 2)), ("traceparent", TRACE % (1, 3))], 3),
        ([("traceparent", TRACE % (1, 2)), ("TraceParent", TRACE % (1, 3))], 3),
        ([("tracexarent", b"x"), ("traceparent", TRACE % (1, 2))], 2),
        ([("traceparent", TRACE % (0, 2))], None),
        ([("a", b"b")], None),
    ],
    ids=["one", "upper case", "two", "two in different case", "another of its length", "not valid", "none"],
)
def test_the_senders_span(propagation, headers, parent):
    """Of two that contradict each other the last."""
    span, *_ = propagation.incoming(headers, Context())

    assert (None if span is None else span.get_span_context().span_id) == parent


def test_headers_among_which_is_one_that_is_none():
    """It is passed over; what comes after it is read."""
    headers = [7, ("a", b"1", "x"), (b"\xff", b"2"), ("B", b"3"), (b"b", b"4"), (bytearray(b"a"), b"5")]

    assert tolerant(headers, ("a", "b")) == {"a": [b"5"], "b": [b"3", b"4"]}


def test_a_copy_without_some():
    """In any case; what is no text stays."""
    headers = [("a", b"1"), ("A", b"2"), (7, b"3"), ("b", b"4")]

    assert (without(headers, frozenset({"a"})), without(None, frozenset())) == ([(7, b"3"), ("b", b"4")], [])


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("a", b"1"), ("otelp", b"2")], b"2"),
        ([("otelp", b"1"), ("otelp", b"2")], b"2"),
        ([("otelp", b"1"), ("otelp", b"2"), ("a", b"3")], b"2"),
        ([("otelp", b"1"), ("OTELP", b"2"), ("a", b"3")], b"2"),
        ([("otelp", b"1"), 7], b"1"),
        ({"a": b"1", "otelp": b"2"}, b"2"),
        ([("a", b"1")], None),
        ([], None),
        (None, None),
        ([7], None),
    ],
    ids=repr,
)
def test_the_data_flow_header_of_a_message(headers, found):
    """The last one, wherever it is; a batch reads each message's as it is read alone."""
    last = [("a", b"1"), ("otelp", b"9")]

    assert own_header(headers) == found
    assert own_headers(lambda message: message, [last, headers, last]) == [b"9", found, b"9"]
    assert own_headers(lambda message: message, [last, last]) == [b"9", b"9"]


@pytest.mark.parametrize(
    "headers",
    [
        [("otelp", header(hops=3)), ("otelp", header(hops=4))],
        [("otelp", header(hops=3)), ("OTELP", header(hops=4)), ("a", b"1")],
        [("otelp", header(hops=4)), 7],
        {"otelp": header(hops=4)},
    ],
    ids=["two", "another case", "beside no pair", "a mapping"],
)
def test_the_data_flow_header_is_read_by_one_rule(propagation, headers):
    """A message alone, a message of a batch, and what a propagator of HTTP reads: the last one."""
    *_, found, said = propagation.incoming(headers, Context())

    assert (found, said[0] >> 8 & 0xFF) == (own_header(headers), 4)


def test_the_origin_of_a_pull():
    """The oldest that is known decides; newest, most hops and the number of messages are kept beside it."""
    batch = Batch()
    older_ms, newer_ms = NOW_MS - 9_000, NOW_MS - 7_000
    batch.add(None, 1, [header("staging", hops=2, origin_ms=older_ms), None], [older_ms, 0])
    batch.add(None, 1, [header("test", hops=4, origin_ms=newer_ms)], [newer_ms])

    assert batch.origin == Origin(older_ms, newer_ms, 4, "staging", 3, 3)


def test_the_origin_of_a_pull_with_times_that_cannot_be():
    """In s instead of ms, in µs: unknown, and not the oldest."""
    batch = Batch()
    times_ms = [NOW_MS // 1_000, NOW_MS - 7_000, NOW_MS * 1_000]
    batch.add(
        None,
        1,
        [
            header(environment, origin_ms=each)
            for environment, each in zip(("local", "test", "staging"), times_ms, strict=True)
        ],
        times_ms,
    )

    assert batch.origin == Origin(NOW_MS - 7_000, NOW_MS - 7_000, 1, "test", 3, 3)


def test_the_origin_of_a_pull_without_our_headers():
    """It is not known; the data is at its first hop."""
    batch = Batch()
    batch.add(None, 1, [None, None], [0, 0])

    assert batch.origin == Origin(0, 0, 1, None, 0, 2)


def test_spans_and_links_that_are_not_recorded():
    """Where they come from is said; there is nothing on them."""
    ours, theirs = LightSpan(1, 2, 1), LightSpan(1, 2, 1, is_remote=True)
    link = LightLink(ours)

    assert [span.get_span_context().is_remote for span in (ours, theirs)] == [False, True]
    assert (link.context.span_id, dict(link.attributes), link.dropped_attributes) == (2, {}, 0)


@pytest.mark.parametrize(
    ("bootstrap", "attributes"),
    [
        ("host:9092", {"server.address": "host", "server.port": 9092}),
        ("host", {"server.address": "host"}),
        (["a:1", "b:2"], {"server.address": "a", "server.port": 1}),
        ("[::1]:7", {"server.address": "::1", "server.port": 7}),
        ("::1", {"server.address": "::1"}),
        ("PLAINTEXT://host:9092,b:1", {"server.address": "host", "server.port": 9092}),
        ("user:secret@host:9092", {"server.address": "host", "server.port": 9092}),
        ("SASL_SSL://user:s@c,r@host:9092,b:1", {"server.address": "host", "server.port": 9092}),
        (["user:secret@host:9092", "b:1"], {"server.address": "host", "server.port": 9092}),
        ("host:", {"server.address": "host:"}),
        ("", {}),
        ([], {}),
        (None, {}),
    ],
    ids=repr,
)
def test_where_the_broker_is(bootstrap, attributes):
    """The first one that the application has given, with a port only where one was given."""
    assert client_attributes("kafka", server_of(bootstrap)) == {"messaging.system.name": "kafka", **attributes}
