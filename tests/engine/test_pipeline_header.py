"""The data-flow header: its layout, what is bounded, what cannot be read."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_pipeline.engine import pipeline_header as header

FIELDS = {
    "flags": 8,
    "hops": 3,
    "environment": "staging",
    "origin_ms": 0x0102030405,
    "newest_ms": 0,
    "path": 0xA1A2A3A4A5A6,
    "producer_id": 0xB1B2B3B4,
    "sequence": 0xC1C2C3C4,
    "tag": 0xD1D2,
}


def raw(encoded):
    return base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))


def test_the_layout():
    """30 bytes, 40 characters, each field at its place."""
    encoded = header.encode(**FIELDS)

    assert (len(encoded), raw(encoded).hex()) == (
        40,
        "0108030400010203040500000000a1a2a3a4a5a6b1b2b3b4c1c2c3c4d1d2",
    )


ENVIRONMENTS = st.sampled_from([None, *header.ENVIRONMENT_CODES, "kundentest", "übung"])


@settings(max_examples=200)
@given(
    st.integers(0, 255), ENVIRONMENTS, st.integers(0, 2**48 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)
)
def test_what_is_written_is_read(hops, environment, origin_ms, delta_ms, number):
    """With and without fan-in and extension; `stamp` changes number and tag alone."""
    for flags in (0, header.FAN_IN):
        values = {**FIELDS, "flags": flags, "hops": hops, "environment": environment, "origin_ms": origin_ms}
        values["newest_ms"] = origin_ms + (delta_ms if flags else 0)
        found = header.decode(header.stamp(header.encode(**values), number, 7))
        extended = header.EXTENDED if environment in ("kundentest", "übung") else 0
        assert found._asdict() == {**values, "flags": flags | extended, "sequence": number, "tag": 7}


def test_fields_saturate():
    """Too many hops, an origin before 1970 or after the year 10,000, a newest that is older."""
    found = header.decode(
        header.encode(**{**FIELDS, "flags": header.FAN_IN, "hops": 999, "origin_ms": 2**60, "newest_ms": 5})
    )
    early = header.decode(header.encode(**{**FIELDS, "origin_ms": -5}))

    assert (found.hops, found.origin_ms, found.newest_ms, early.origin_ms) == (255, 2**48 - 1, 2**48 - 1, 0)


GOOD = header.encode(**FIELDS)
OTHER = header.encode(**{**FIELDS, "environment": "kundentest"})


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"x",
        GOOD[:-4],
        b"A" * 40,
        b"\xff" * 40,
        b"A" * 100_000,
        "ü" * 40,
        7,
        OTHER[:-3],
        base64.urlsafe_b64encode(b"\x02" + raw(GOOD)[1:]),
        base64.urlsafe_b64encode(raw(OTHER)[:30] + b"\x02\xff" + b"abc"),
        GOOD[:20] + b"\0\0\0" + OTHER[20:],
        GOOD[:20] + b" \n=." + OTHER[20:],
    ],
    ids=range(14),
)
def test_what_cannot_be_read_is_none(value):
    """Absent, cut, forged, of another version, with a part that is longer than the rest, with what is no base64."""
    assert (header.decode(value), header.fields(value)) == (None, None)


def test_unknown_parts_of_the_extension_are_passed_over():
    """By their length; the known one behind them is read."""
    extended = raw(OTHER)
    value = base64.urlsafe_b64encode(extended[:30] + b"\x09\x02ab" + extended[30:]).rstrip(b"=")

    assert header.decode(value).environment == "kundentest"


def test_the_cheap_looks():
    """Hops and producer alone, also of what cannot be read."""
    assert (header.hops_of(GOOD), header.producer_of(GOOD)) == (3, 0xB1B2B3B4)
    assert (header.hops_of(b"\xff"), header.hops_of(None), header.producer_of(b"x")) == (0, 0, None)
    assert header.producer_of(header.encode(**{**FIELDS, "flags": 0})) is None, "not a sequence of one partition"


def test_producer_and_number_are_filled_in_later():
    """With the flag where the number is of one partition; the rest is as it was, an extension included."""
    for environment in ("staging", "kundentest"):
        values = {**FIELDS, "flags": 0, "environment": environment, "producer_id": 0, "sequence": 0, "tag": 0}
        encoded = header.encode(**values)
        before = header.decode(encoded)
        for per_partition, flag in ((False, 0), (True, header.PER_PARTITION)):
            found = header.decode(header.numbered(encoded, 5, 6, 7, per_partition=per_partition))
            assert found == before._replace(flags=before.flags | flag, producer_id=5, sequence=6, tag=7)


def test_a_template_is_filled_in():
    """Origin, sequence and tag of a first hop, the rest as it was."""
    filled = header.Template(header.encode(**{**FIELDS, "origin_ms": 0, "sequence": 0, "tag": 0})).filled(99, 5, 6)
    other = header.Template(header.encode(**{**FIELDS, "environment": "kundentest"})).filled(99, 5, 6)

    assert header.decode(filled)._asdict() == {**FIELDS, "origin_ms": 99, "newest_ms": 99, "sequence": 5, "tag": 6}
    assert (header.decode(other).environment, header.decode(other).origin_ms) == ("kundentest", 99)


def test_paths_do_not_know_the_environment():
    """The same service and topic give the same path; another parent another one."""
    first = header.path_hash(0, "ingest", "orders")

    assert (first, header.path_hash(first, "scorer", "decisions") != header.path_hash(0, "scorer", "decisions")) == (
        header.path_hash(0, "ingest", "orders"),
        True,
    )
    assert (first < 2**48, header.tag_of("orders", 1) != header.tag_of("orders", 2)) == (True, True)


def encoded(number, *, producer=7, tag=3, origin_ms=1_700_000_000_000, environment="production"):
    return header.encode(
        flags=header.PER_PARTITION,
        hops=1,
        environment=environment,
        origin_ms=origin_ms,
        newest_ms=0,
        path=1,
        producer_id=producer,
        sequence=number,
        tag=tag,
    )


@given(
    st.integers(0, 0xFFFF_FFFF),
    st.integers(1, 700),
    st.lists(st.tuples(st.integers(0, 699), st.integers(-300, 300)), max_size=2),
)
@example(0xFFFF_FF00, 300, [])
@example(0x00FF_FFFE, 600, [])
def test_the_numbers_of_a_pull_follow_each_other_or_not(first, count, changes):
    """As looking at each of them says, also over the edges of bytes."""
    numbers = [(first + at) % 0x1_0000_0000 for at in range(count)]
    for at, change in changes:
        if at < count:
            numbers[at] = (numbers[at] + change) % 0x1_0000_0000
    block = header.HeaderBlock.read([encoded(number) for number in numbers])
    follows = all(later == earlier + 1 for earlier, later in pairwise(numbers)) and numbers[0] + count <= 0xFFFF_FFFF

    assert block.consecutive() == (numbers[0] if follows else None)
    assert [number for _, number, _ in block.numbers()] == numbers


def test_a_pull_is_read_as_its_messages_are():
    """Columns of the block against single headers; another producer or tag is seen."""
    values = [encoded(number, origin_ms=1_700_000_000_000 + number) for number in range(1, 40)]
    block = header.HeaderBlock.read(values)

    assert list(block.origins_ms()) == [header.decode(value).origin_ms for value in values]
    assert (block.one_producer(), set(block.flags), set(block.environments)) == ((7, 3), {8}, {6})
    for other in (encoded(40, producer=8), encoded(40, tag=4)):
        assert header.HeaderBlock.read([*values, other]).one_producer() is None


@pytest.mark.parametrize("between", [1, 2, 5])
@pytest.mark.parametrize("moved", [1, 2, 3, 4, 8])
def test_headers_that_are_cut_do_not_shift_the_others(between, moved):
    """One is shorter and one longer by as much: the pull is then read one by one."""
    short, long = encoded(1)[:-moved], encoded(9) + b"A" * moved
    values = [short, *(encoded(number) for number in range(2, 2 + between)), long]

    assert header.HeaderBlock.read(values) is None
    assert header.HeaderBlock.read(values[::-1]) is None
