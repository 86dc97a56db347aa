"""What the watch does in place, for nearly every message, counts exactly what the calls count that it spares."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_pipeline.detectors.environments import PartitionEnvironments
from otel_pipeline.detectors.freshness import PartitionFreshness
from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.detectors.partition import PartitionWatch
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.totals import Totals
from otel_pipeline.semconv import AGE_BUCKETS_S

NOW_MS = 1_795_435_200_000
TAG = pipeline_header.tag_of("orders", 0)
FIELDS = MessageFields(
    destination=lambda _: "orders",
    partition=lambda _: 0,
    offset=lambda message: message.offset,
    timestamp_ms=lambda message: message.timestamp_ms,
    key=lambda _: None,
    headers=lambda _: (),
    value=lambda _: None,
    body_bytes=lambda _: 0,
)


def header(producer, number, *, environment="production", tag=TAG, flags=pipeline_header.PER_PARTITION, hops=1):
    return pipeline_header.encode(
        flags=flags,
        hops=hops,
        environment=environment,
        origin_ms=NOW_MS - 300,
        newest_ms=0,
        path=1,
        producer_id=producer,
        sequence=number,
        tag=tag,
    )


def state(of, *but):
    """All that an object remembers, but for what is compared apart, is another object of the same, or is shared."""
    names = [name for each in type(of).__mro__ for name in getattr(each, "__slots__", ()) if name not in but]
    found = {name: getattr(of, name) for name in names}
    found["_gapped"] = sorted(window.producer for window in found.get("_gapped", ()))
    found["_room"] = getattr(found.get("_room"), "taken", None)
    return found


class Watched:
    """A watch of one partition, with all that it counts."""

    def __init__(self, *, in_place):
        totals = Totals()
        self.ages = [totals.histogram(name, "s", "", AGE_BUCKETS_S) for name in ("delivery", "data")]
        delivery, data = self.ages
        self.watch = PartitionWatch(
            FIELDS,
            order=PartitionOrder(TAG, lambda: 0.0),
            freshness=PartitionFreshness(delivery.cell({}), data.local({})),
            environments=PartitionEnvironments("production", {}),
        )
        if not in_place:
            self.watch._usual = None
            self.watch._plain_delivery = self.watch._plain_data = False

    def counts(self):
        watch, order = self.watch, self.watch.order
        plain = {name: getattr(watch, name) for name in ("readable", "unreadable", "without_header", "last_ms")}
        cells = [age.total({}) for age in self.ages]
        of_order = state(order, "_lock", "_monotonic_s", "_windows", "_destination_numbers", "latest", "log")
        # In which order several producers' gaps are given up says nothing.
        of_order["missing_places"] = sorted(of_order["missing_places"])
        return {
            **plain,
            "processed": (watch.processed_offset, watch.freshness.newest_origin_ms, watch.freshness.negative_ages),
            "environments": (watch.environments.unlabelled, watch.environments.visitors),
            "order": of_order,
            "log": state(order.log),
            "of the destination": {
                producer: [getattr(window, name) for name in ("first", "newest", "offset", "arrived")]
                for producer, window in order._destination_numbers._windows.items()
            },
            "windows": {
                producer: [
                    getattr(window, name) for name in ("newest", "offset", "skipped", "arrived", "excused", "given_up")
                ]
                for producer, window in order._windows.items()
            },
            "ages": [(cell.bucket_counts, round(cell.sum * 1000), cell.min, cell.max) for cell in cells],
        }


USUAL = {"number": 1, "offset": 1, "what": "usual", "producer": 1, "age_ms": 100, "clock_ms": 1}
OTHER = {
    "number": [1, 0, -1, 3, 1_500, -1_200],
    "offset": [1, 0, -3, 2, 9],
    "what": ["usual", "hops", "none", "garbage", "foreign", "unnamed", "relayed", "per topic", "numberless"],
    "producer": [1, 2, 3],
    "age_ms": [101, 0, 7_000, 10**9, -3, -60_000, "zero", "below zero", "one", "none"],
    "clock_ms": [1, 0, 50, -20],
}
one_other = st.sampled_from([{**USUAL, name: value} for name, values in OTHER.items() for value in values])
any_other = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in OTHER.items()})
step = st.one_of(st.just(USUAL), one_other, any_other)
turn = st.sampled_from(["", "", "", "", "sought", "assigned", "earliest", "latest", "ended", "processed", "batch"])


def messages(steps):
    """Messages as a broker and producers make them of these steps: (message, header, now)."""
    numbers, offset, now_ms = {}, -1, NOW_MS
    for each in steps:
        producer, what = each["producer"], each["what"]
        number = numbers[producer] = max(1, numbers.get(producer, 0) + each["number"])
        offset, now_ms = max(0, offset + each["offset"]), now_ms + each["clock_ms"]
        said = {
            "hops": {"hops": 7},
            "foreign": {"environment": "local"},
            "unnamed": {"environment": None},
            "relayed": {"tag": TAG + 1},
            "per topic": {"flags": 0},
        }.get(what, {})
        value = {"none": None, "garbage": b"\xff" * 40, "numberless": header(0, 0)}.get(
            what, header(producer, number, **said)
        )
        special = {"zero": 0, "below zero": -1, "one": 1, "none": None}
        age = each["age_ms"]
        timestamp_ms = special[age] if age in special else now_ms - age
        yield SimpleNamespace(offset=offset, timestamp_ms=timestamp_ms), value, now_ms


def act(watched, does, message, value, now_ms):
    """The message, and what goes on around it."""
    watch, order = watched.watch, watched.watch.order
    if does in {"earliest", "latest"}:
        order.out_of_range(order.highest + 5, does)
    elif does == "ended":
        order.ended(1e9, 5.0)
    elif does in {"sought", "assigned"}:
        getattr(watch, does)()
    if does == "batch":
        origins = watch.batch([message], [value], now_ms)
        watch.processed_batch(message.offset, origins, now_ms)
        return list(origins)
    fields = None if value is None else pipeline_header.fields(value)
    origin_ms = watch.one(message, message.offset, message.timestamp_ms, value, fields, now_ms)
    if does == "processed":
        watch.processed(message.offset, origin_ms, now_ms)
    return [origin_ms]


@settings(max_examples=300, deadline=None)
@example(
    [
        ({**USUAL, "age_ms": age, "what": "none", "clock_ms": by}, "processed")
        for age, by in (("one", 1), ("one", 50), ("zero", -20))
    ]
)
@given(st.lists(st.tuples(step, turn), min_size=20, max_size=60))
def test_in_place_counts_what_the_calls_count(plan):
    """Gaps, duplicates, other producers, tags, environments, missing and broken headers, seeks, clocks that are set."""
    fast, slow = Watched(in_place=True), Watched(in_place=False)
    turns = [does for _, does in plan]
    for does, (message, value, now_ms) in zip(turns, messages([each for each, _ in plan]), strict=True):
        assert act(fast, does, message, value, now_ms) == act(slow, does, message, value, now_ms)

    assert fast.counts() == slow.counts()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(step, st.booleans()), min_size=20, max_size=60))
def test_a_batch_counts_what_its_messages_count(plan):
    """Wherever a pull ends: handed over at once or one by one, at the time that the pull was handed over."""
    one, many = Watched(in_place=True), Watched(in_place=True)
    pull = []
    made = messages([{**each, "offset": max(1, each["offset"]), "clock_ms": 0} for each, _ in plan])
    for (message, value, now_ms), last in zip(made, [last for _, last in plan[:-1]] + [True], strict=True):
        pull.append((message, value))
        if last:
            many.watch.batch([each for each, _ in pull], [header for _, header in pull], now_ms)
            for each, header in pull:
                act(one, "", each, header, now_ms)
            pull = []

    assert many.counts() == one.counts()


def calls(act):
    """Names of the functions of ours that are called."""
    found = []
    sys.setprofile(lambda frame, event, _: found.append(frame.f_code.co_name) if event == "call" else None)
    try:
        act()
    finally:
        sys.setprofile(None)
    return found[:-1] if found and found[-1] == "setprofile" else found


def test_a_usual_message_is_one_call():
    """And so is the end of its processing: what both take is read in place."""
    watched = Watched(in_place=True)
    made = list(messages([USUAL] * 30))
    for message, value, now_ms in made[:20]:
        act(watched, "processed", message, value, now_ms)
    message, value, now_ms = made[20]
    fields = pipeline_header.fields(value)
    watch = watched.watch

    assert calls(lambda: watch.one(message, 20, message.timestamp_ms, value, fields, now_ms)) == ["<lambda>", "one"]
    assert calls(lambda: watch.processed(20, now_ms - 310, now_ms)) == ["<lambda>", "processed"]
