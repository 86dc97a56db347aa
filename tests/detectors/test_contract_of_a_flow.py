"""From messages to the light of their contract: change events, tombstones, poison, magic bytes; and who breaks it."""

from __future__ import annotations

import json

import pytest

from otel_pipeline.verdict import words
from tests.contracts.value_streams import debezium_after_a_snapshot, json_and_compressed, numbers_as_text, values_of
from tests.detectors.conftest import NOW_MS

SINCE = words.clock(NOW_MS / 1000 - 2)
"""The verdict is of two seconds later."""


@pytest.fixture
def found(watching):
    """What watches, with the test's clock: looking costs nothing, so that all is looked at."""
    made = watching()
    watch = made.contracts.of("orders", "consumer")
    watch._clock_ns = watch.sampler._clock_ns = lambda: int(made.now_s * 1e9)
    return made


def deliver(found, values, *, producer=7, batch=False):
    """Messages of one producer with these values: one by one, or in one batch."""
    offset = found.at["orders", 0]
    messages = [
        found.message(offset + at, value=value, header=found.header(offset + at + 1, producer=producer))
        for at, value in enumerate(values)
    ]
    found.at["orders", 0] += len(messages)
    if batch:
        observer = found.consumer.partition("orders", 0).observer
        observer.batch(messages, [message[5][-1][1] for message in messages], found.now_ms)
    else:
        found.deliver(*messages)


def light(found):
    shown = found.lights()["contract"]
    return shown.state, shown.why


def framed(number, body):
    return b"\0" + number.to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("values", "state", "why"),
    [
        pytest.param(
            values_of(debezium_after_a_snapshot)[:1_300],
            "grey",
            "only 100 of 264 values can be judged: the others are of new kinds, by op, which are still being learned",
            id="changes after a snapshot",
        ),
        pytest.param(
            [{"id": at} if at < 1_050 or at % 4 else None for at in range(1_400)],
            "green",
            "313 values checked against the contract (learned)",
            id="tombstones",
        ),
        pytest.param(
            [framed(7 if at < 1_100 else 8, json.dumps({"id": at}).encode()) for at in range(1_200)],
            "green",
            "200 values checked against the contract (learned)",
            id="another schema id of the same shape",
        ),
        pytest.param(
            [framed(7, json.dumps({"id": at}).encode()) for at in range(1_100)] + [framed(8, b'{"id": 1, "new": 1}')],
            "amber",
            f"new schema id 8 since {SINCE}",
            id="another schema id of another shape",
        ),
        pytest.param(
            [framed(7, b"\2ab")] * 100 + [framed(8, b"\2ab")] * 5_000,
            "amber",
            f"new schema id 8 since {SINCE}",
            id="another schema id of Avro",
        ),
        pytest.param(
            [framed(7, b"\2ab")] * 1_200,
            "grey",
            "not seen: values are no objects and no JSON; they begin with schema id 7",
            id="Avro",
        ),
        pytest.param(
            values_of(numbers_as_text)[:1_200],
            "grey",
            "not seen: values are no objects and no JSON",
            id="numbers as text",
        ),
        pytest.param(
            values_of(json_and_compressed)[:1_200],
            "grey",
            "too few yet: 600 of 1,000 messages learned",
            id="JSON and what was compressed by hand",
        ),
    ],
)
def test_what_is_no_broken_contract(found, values, state, why):
    """And what is worth a look, though it breaks nothing."""
    deliver(found, values)

    assert light(found) == (state, why)


def test_poison(found):
    """What a deserializer raises at is amber before there is a contract."""
    deliver(found, [{"i": at} for at in range(297)])
    for _ in range(3):
        found.engine.unreadable("orders", "consumer")

    assert light(found) == ("amber", f"the (de)serializer raised in 3 messages since {SINCE}")


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("producer", "named"), [(9, ", all from producer 9, one of 3"), (8, ", all from producer 8, one of 3")]
)
def test_who_breaks_it(found, batch, producer, named):
    """One producer of several."""
    deliver(found, [{"id": at, "coupon": "x"} for at in range(1_000)])
    for each in (7, 8, 9):
        deliver(found, [{"id": at, "coupon": "x"} for at in range(100)], producer=each, batch=batch)
    deliver(found, [{"id": 1}] * 20, producer=producer, batch=batch)

    assert light(found) == ("amber", f"coupon: missing in all 20 since {SINCE}{named}")


def test_several_who_break_it_are_not_named(found):
    deliver(found, [{"id": at, "coupon": "x"} for at in range(1_000)])
    for each in (7, 8):
        deliver(found, [{"id": 1}] * 10, producer=each)

    assert light(found) == ("amber", f"coupon: missing in all 20 since {SINCE}")
