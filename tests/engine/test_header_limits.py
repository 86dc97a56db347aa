"""What is read of headers that are long, and what is written of contexts that are."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from opentelemetry.context import Context

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.trace_context import TraceContext, chosen, parse_traceparent
from otel_pipeline.engine.w3c import as_bytes, encode_baggage, parse_baggage, parse_tracestate
from tests.limits import below_at_above


def length(found):
    return None if found is None else len(found)


def header(**fields):
    said = {"flags": 0, "hops": 1, "environment": "test", "origin_ms": 5, "newest_ms": 5, "path": 1}
    return pipeline_header.encode(**{**said, "producer_id": 2, "sequence": 3, "tag": 4, **fields})


@below_at_above("engine.trace_context.MAX_TRACEPARENT_BYTES", 512, (1, 2, 1), (1, 2, 1), None)
def test_a_long_traceparent_of_a_later_version(size, outcome):
    """Its known part is read; of what is longer than 512 bytes nothing is."""
    value = b"01-%032x-%016x-01-" % (1, 2)

    assert parse_traceparent(value + b"x" * (size - len(value))) == outcome


@below_at_above("the length of a traceparent", 55, None, (1, 2, 1), None)
def test_a_traceparent_has_55_characters(size, outcome):
    """In the version that we know."""
    value = b"00-%032x-%016x-01" % (1, 2)

    assert parse_traceparent((value + b"1")[:size]) == outcome


@below_at_above("engine.trace_context.MAX_TRACEPARENTS", 8, 6, 7, 7)
def test_many_traceparents(size, outcome):
    """The last eight are looked at: one is the sender's, the others are linked."""
    ids, value, others = chosen([b"00-%032x-%016x-01" % (1, at + 1) for at in range(size)])

    assert (ids, value, len(others)) == ((1, size, 1), b"00-%032x-%016x-01" % (1, size), outcome)


@below_at_above("engine.w3c.MAX_TRACESTATE_MEMBERS", 32, 31, 32, None)
def test_members_of_tracestate(size, outcome):
    """More than 32 are none."""
    assert length(parse_tracestate([",".join(f"k{at}=v" for at in range(size))])) == outcome


@below_at_above("engine.w3c.MAX_TRACESTATE_BYTES", 8_192, [("a", "b")], [("a", "b")], None)
def test_a_long_tracestate(size, outcome):
    """In one header, and in two together."""
    found = [parse_tracestate(["a=b" + " " * (size - 3)]), parse_tracestate(["a=b", " " * (size - 3)])]

    assert found == [outcome, outcome]


@below_at_above("the value of a member of tracestate", 256, 256 - 1, 256, None)
def test_a_long_value_in_tracestate(size, outcome):
    """One that is too long makes the whole invalid."""
    found = parse_tracestate(["a=" + "v" * size])

    assert (None if found is None else len(found[0][1])) == outcome


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        ("k" * 255, True),
        ("k" * 256, True),
        ("k" * 257, False),
        ("1k", False),
        ("K", False),
        ("", False),
        ("1" * 240 + "@v", True),
        ("1" * 241 + "@v", True),
        ("1" * 242 + "@v", False),
        ("t@" + "v" * 13, True),
        ("t@" + "v" * 14, True),
        ("t@" + "v" * 15, False),
        ("@v", False),
        ("t@", False),
        ("t@1", False),
        ("-t@v", False),
        ("t$@v", False),
        ("t@v$", False),
    ],
)
def test_keys_of_tracestate(key, valid):
    """As W3C Trace Context level 1 has them."""
    assert parse_tracestate([f"{key}=v"]) == ([(key, "v")] if valid else None)


@pytest.mark.parametrize(
    ("text", "valid"), [("", False), (" !~", True), ("\x1f", False), ("\x7f", False), ("a=b", False), ("a", True)]
)
def test_values_of_tracestate(text, valid):
    """Printable, without an equals sign, and not empty."""
    assert parse_tracestate([f"a={text}|" if valid else f"a={text}"]) == ([("a", f"{text}|")] if valid else None)


def test_empty_members_of_tracestate():
    """They are passed over, and the first of two with the same key counts."""
    assert parse_tracestate([" ,a=1,,", "b=2,a=3"]) == [("a", "1"), ("b", "2")]


@below_at_above("engine.w3c.MAX_BAGGAGE_MEMBERS", 180, 179, 180, 180)
def test_members_of_baggage(size, outcome):
    """The first 180, when it is read and when it is written."""
    baggage = {f"k{at}": "v" for at in range(size)}
    read = parse_baggage([",".join(f"{key}=v" for key in baggage)])

    assert (len(read), len(encode_baggage(baggage).split(b","))) == (outcome, outcome)


@below_at_above("engine.w3c.MAX_BAGGAGE_BYTES", 8_192, [("a", "b", "")], [("a", "b", "")], None)
def test_a_long_baggage(size, outcome):
    """In one header, and in two together."""
    found = [parse_baggage(["a=b" + "," * (size - 3)]), parse_baggage(["a=b", "," * (size - 3)])]

    assert found == [outcome, outcome]


@below_at_above("engine.w3c.MAX_BAGGAGE_BYTES", 8_192, 8_191, 8_192, 8_009)
def test_a_long_baggage_is_written_in_part(size, outcome):
    """What does not fit is left out; what comes after it and fits is not."""
    written = encode_baggage({"a": "v" * 4_000, "b": "v" * 4_000, "c": "v" * (size - 8_008), "d": "v"})

    assert len(written) == outcome


@below_at_above("engine.w3c.MAX_BAGGAGE_MEMBER_BYTES", 4_096, ["k", "a"], ["k", "a"], ["a"])
def test_a_long_member_of_baggage(size, outcome):
    """It is left out, read or written; the others stay."""
    read = parse_baggage(["k=" + "v" * (size - 2) + ",a=b"])
    written = encode_baggage({"k": "v" * (size - 2), "a": "b"})

    assert [member.key for member in read] == [part.split("=")[0] for part in written.decode().split(",")] == outcome


def test_members_of_baggage_that_are_none():
    """Without a key or an equals sign they are left out, and so is what does not decode; a header of null is none."""
    found = parse_baggage([" a =1 ,=2,b", None, "c=a+b%20c", b"d=\xff,e=Jos\xc3\xa9", "f=\ud800,g=%FF"])

    assert found == [("a", "1", ""), ("c", "a+b c", ""), ("e", "José", ""), ("g", "\ufffd", "")]


def test_properties_of_baggage():
    """They are no part of the value, and are written on where it is still the same."""
    came = parse_baggage([b"a=1;p;q=2, b = 2 ; r ,c=3;\xc3\xa9,d=4;,e=5;\x01"])
    by_key = {member.key: member for member in came}
    now = {"a": "1", "b": "two", "c": "3", "d": "4", "e": "5"}

    assert came == [("a", "1", "p;q=2"), ("b", "2", "r"), ("c", "3", ""), ("d", "4", ""), ("e", "5", "")]
    assert encode_baggage(now, by_key) == b"a=1;p;q=2,b=two,c=3,d=4,e=5"


def test_baggage_whose_text_cannot_be_had():
    """That member is left out; half of a character becomes a question mark."""

    class Bad:
        def __str__(self):
            raise ValueError

    assert encode_baggage({"a": Bad(), "b": "x\ud800", "c": 7}) == b"b=x?,c=7"


@below_at_above("the limit that `as_bytes` is given", 5, b"vvvv", b"vvvvv", None)
def test_values_as_bytes(size, outcome):
    """Text or bytes, within the limit."""
    assert as_bytes("v" * size, 5) == as_bytes(b"v" * size, 5) == outcome


@below_at_above("engine.pipeline_header._MAX_CHARACTERS", 300, 1, 1, None)
def test_a_long_data_flow_header(size, outcome):
    """Of 300 bytes, which are 400 characters, it is read; of more it is not."""
    raw = bytes((1, 1 << 5)) + b"\x01" * 28
    more = size - len(raw)
    raw += bytes((9, 100)) + b"v" * 100 + bytes((9, more - 104)) + b"v" * (more - 104)
    found = pipeline_header.decode(urlsafe_b64encode(raw).rstrip(b"="))

    assert (None if found is None else found.hops) == outcome


class Long(bytes):
    """A megabyte, which tells how much of it is decoded."""

    decoded: list

    def translate(self, *table):
        self.decoded.append(len(self))
        return bytes(self).translate(*table)

    def __getitem__(self, at):
        found = Long(bytes(self)[at])
        found.decoded = self.decoded
        return found


def test_of_a_megabyte_a_few_characters_are_decoded():
    """A message that somebody has made for it costs no more than another one."""
    value = Long(b"A" * 1_000_000)
    value.decoded = []

    assert (pipeline_header.fields(value), pipeline_header.decode(value), value.decoded) == (None, None, [41])
    assert pipeline_header.HeaderBlock.read([b"A" * 40, value]) is None
    assert value.decoded == [41]
    read = TraceContext(lambda _reason: None, with_baggage=True).incoming([("otelp", value)], Context())
    assert (read[0], read[4], set(value.decoded)) == (None, None, {41})


@below_at_above("characters of a traceparent that is read in place", 55, False, True, False)
def test_a_traceparent_of_another_length_is_read_apart(size, outcome):
    """And is not split: a megabyte of dashes makes no list."""
    value = (b"00-4bf92f3577b34da6a3ce929d0e0e4736-a3ce929d0e0e4736-01" + b"-" * 1_000_000)[:size]
    created = TraceContext(lambda _reason: None, with_baggage=True).incoming([("traceparent", value)], Context())[0]

    assert (created is not None) is outcome


@below_at_above("the fixed part of the data-flow header", 30, None, 1, 1)
def test_a_short_data_flow_header(size, outcome):
    """Of fewer than 30 bytes nothing is read; without the flag, what comes after them is passed over."""
    raw = bytes((1, 0)) + b"\x01" * 29
    found = pipeline_header.decode(urlsafe_b64encode(raw[:size]).rstrip(b"="))

    assert (None if found is None else found.hops) == outcome


@below_at_above("engine.pipeline_header._MAX_ENVIRONMENT_BYTES", 16, "e" * 15, "e" * 16, "e" * 16)
def test_a_long_name_of_an_environment(size, outcome):
    """It is cut, and both sides see the same."""
    name = "e" * size

    assert (
        pipeline_header.name_in_header(name) == pipeline_header.decode(header(environment=name)).environment == outcome
    )


@below_at_above("hops in the data-flow header", 255, 254, 255, 255)
def test_many_hops(size, outcome):
    """They are counted up to 255."""
    assert pipeline_header.decode(header(hops=size)).hops == pipeline_header.hops_of(header(hops=size)) == outcome


@pytest.mark.parametrize(
    ("field", "most"), [("origin_ms", (1 << 48) - 1), ("newest_ms", 5 + (1 << 32) - 1)], ids=["origin", "newest"]
)
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_times_that_do_not_fit(field, most, beyond):
    """They are written as the latest that fits."""
    read = pipeline_header.decode(header(flags=pipeline_header.FAN_IN, **{field: most + beyond}))

    assert getattr(read, field) == most + min(beyond, 0)


@pytest.mark.parametrize(
    ("cache", "add"),
    [
        ("_hops", lambda: pipeline_header.hops_of(header(hops=77))),
        ("_environments", lambda: pipeline_header.origin_environment(header(hops=77))),
        ("_paths", lambda: pipeline_header.path_hash(7, "s", "d")),
        ("_tags", lambda: pipeline_header.tag_of("d", 7)),
    ],
)
@below_at_above("engine.pipeline_header._CACHE_LIMIT", 10_000, 9_999, 10_000, 1)
def test_what_is_remembered_of_headers(monkeypatch, cache, add, size, outcome):
    """Of 10,000 at most; one more, and it begins anew."""
    remembered = dict.fromkeys(range(size - 1), 0)
    monkeypatch.setattr(pipeline_header, cache, remembered)
    add()

    assert len(remembered) == outcome
