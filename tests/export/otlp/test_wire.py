"""OTLP's bytes: what protobuf's own library reads of them is what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_pipeline.export.otlp import wire
from tests.limits import below_at_above

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), st.binary(), TEXTS)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8)


def meant(value):
    """The message, made by protobuf's library."""
    if value is None:
        return AnyValue()
    if isinstance(value, dict):
        pairs = [KeyValue(key=key, value=meant(each)) for key, each in value.items()]
        return AnyValue(kvlist_value=KeyValueList(values=pairs))
    if isinstance(value, (list, tuple)):
        return AnyValue(array_value=ArrayValue(values=map(meant, value)))
    names = {bool: "bool", int: "int", float: "double", str: "string", bytes: "bytes"}
    return AnyValue(**{f"{names[type(value)]}_value": value})


@given(VALUES)
def test_a_value(value):
    """Of every type, nested too; bytes are compared, since NaN is not equal to itself."""
    found = AnyValue.FromString(wire.any_value(value))

    assert found.SerializeToString() == meant(value).SerializeToString()


@given(TEXTS, VALUES)
def test_an_attribute(key, value):
    """As a field of a span."""
    expected = Span(attributes=[KeyValue(key=key, value=meant(value))])

    assert Span.FromString(wire.key_value(key, value, 9)).SerializeToString() == expected.SerializeToString()


@given(st.integers(0, 2**64 - 1))
def test_an_integer(number):
    """With bits of any number up to 64."""
    assert Span.FromString(wire.tag(99, 0) + wire.varint(number)) == Span.FromString(b"\x98\x06" + wire.varint(number))
    assert AnyValue.FromString(b"\x18" + wire.varint(number)).int_value % 2**64 == number


@below_at_above("what one byte of an integer holds", 127, b"\x7e", b"\x7f", b"\x80\x01")
def test_one_byte(size, outcome):
    assert wire.varint(size) == outcome


@below_at_above("what two bytes of an integer hold", 2**14 - 1, b"\xfe\x7f", b"\xff\x7f", b"\x80\x80\x01")
def test_two_bytes(size, outcome):
    assert wire.varint(size) == outcome


class Words(str):
    """A text of a class of the application's."""

    __slots__ = ()


@pytest.mark.parametrize("value", [Words("a"), (1, 2), bytearray(b"ab"), {1: True}])
def test_types_that_are_like_plain_ones(value):
    """As the SDK's encoder takes them."""
    plain = {Words: str, tuple: list, bytearray: list, dict: lambda of: {str(key): each for key, each in of.items()}}

    assert wire.any_value(value) == wire.any_value(plain[type(value)](value))


@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"\ud800": 1}, 2**63, -(2**63) - 1, {1, 2}, object(), 1j])
def test_what_cannot_be_encoded_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        wire.any_value(value)
    with pytest.raises((ValueError, TypeError)):
        wire.key_value("key", value, 9)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_integers_that_have_no_bytes(number):
    with pytest.raises(ValueError, match="64 bits"):
        wire.varint(number)


@below_at_above("export.otlp.wire.MAX_DEPTH", 32, True, True, False)
def test_values_within_values(size, outcome):
    """Of more than that nothing is read by many."""
    value = "in"
    for _ in range(size):
        value = [value]

    if outcome:
        assert AnyValue.FromString(wire.any_value(value)) == meant(value)
    else:
        with pytest.raises(ValueError, match="nested"):
            wire.any_value(value)


@below_at_above("export.otlp.wire.MAX_KEYS", 1024, 1023, 1024, 1)
def test_names_that_are_kept(monkeypatch, size, outcome):
    monkeypatch.setattr(wire, "_keys", {})
    for number in range(size):
        wire.key_value(f"key {number}", 1, 9)

    assert len(wire._keys) == outcome


@below_at_above("export.otlp.wire.MAX_PAIR_BYTES", 256, 1, 1, 0)
def test_a_name_and_a_value_that_are_kept(monkeypatch, size, outcome):
    """The tags and lengths around them are of both."""
    monkeypatch.setattr(wire, "_keys", {})
    wire.key_value("k" * (size - 4), 1, 9)
    wire.key_value("k", "v" * (size - 11), 9)

    assert (len(wire._keys) - 1, len(wire._keys["k"].pairs)) == (outcome, outcome)


@below_at_above("export.otlp.wire.MAX_KNOWN", 64, 63, 64, 1)
def test_resources_that_are_kept(monkeypatch, size, outcome):
    monkeypatch.setattr(wire, "_resources", {})
    made = [Resource({"number": number}) for number in range(size)]
    for each in made:
        wire.resource_of(each)

    assert len(wire._resources) == outcome


def test_a_request():
    """Of one resource and scope, with their schemas."""
    scope = InstrumentationScope("scope", "1.2", "https://scope/schema", {"a": 1})
    found = ExportTraceServiceRequest.FromString(
        wire.request_of(
            wire.resource_of(Resource({"service.name": "s"}, "https://resource/schema")),
            wire.scope_of(scope),
            [wire.length_delimited(2, Span(name=name).SerializeToString()) for name in ("a", "b" * 300)],
        )
    )

    expected = ExportTraceServiceRequest(resource_spans=[ResourceSpans(schema_url="https://resource/schema")])
    (of_resource,) = expected.resource_spans
    of_resource.resource.attributes.add(key="service.name").value.string_value = "s"
    scoped = of_resource.scope_spans.add(schema_url="https://scope/schema")
    scoped.scope.name, scoped.scope.version = "scope", "1.2"
    scoped.scope.attributes.add(key="a").value.int_value = 1
    scoped.spans.add(name="a")
    scoped.spans.add(name="b" * 300)
    assert found == expected


def test_two_requests_after_one_another_are_one():
    """So that what was kept in parts can be sent at once."""
    requests = [wire.request_of(b"", b"", [wire.length_delimited(2, b"")]) for _ in range(2)]

    assert len(ExportTraceServiceRequest.FromString(b"".join(requests)).resource_spans) == 2


def test_no_scope():
    assert wire.scope_of(None) == b"\x0a\x00"


def test_a_resource_is_encoded_again_when_it_is_another_process():
    """A forked child gives it other attributes in its place."""
    resource = Resource({"process.pid": 1})
    before = wire.resource_of(resource)
    assert wire.resource_of(resource) is before

    resource._attributes = Resource({"process.pid": 2})._attributes
    assert wire.resource_of(resource) == wire.resource_of(Resource({"process.pid": 2}))
