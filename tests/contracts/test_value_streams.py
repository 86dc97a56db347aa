"""No stream of values raises an alarm as it is, and in each of them every kind of break is found in its first message."""

from __future__ import annotations

import copy
import json
from functools import cache

import pytest

from otel_pipeline.contracts.measures import NOT_COMPARED, OF_NEW_KIND
from otel_pipeline.contracts.paths import ITEM, ROOT, any_path, child_path, item_path, step_key, steps
from otel_pipeline.contracts.watch import ContractWatch
from tests.contracts.value_streams import (
    FORMS,
    LEARNED,
    MESSAGES,
    OBJECTS,
    OTHERS,
    as_json,
    avro,
    behind_an_id,
    debezium_after_a_snapshot,
    debezium_with_its_schema,
    empty_bytes,
    glue,
    integers,
    json_and_compressed,
    json_texts,
    null_until_later,
    numbers_as_text,
    objects_and_their_error,
    plain_bytes,
    protobuf,
    strings,
    tombstones,
    truths,
    values_of,
)

NO_JSON = (avro, protobuf, glue, numbers_as_text, empty_bytes)


class Clock:
    """A message comes each millisecond: nothing is dear."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        self.now_ns += 1_000
        return self.now_ns


def watched(values, side="consumer"):
    watch = ContractWatch("orders", side, clock_ns=Clock())
    for value in values:
        send(watch, value)
    return watch


def send(watch, value):
    watch._clock_ns.now_ns += 1_000_000
    watch.check(value, 100)


def compared(values):
    """How many of them come after the contract is known, and are values."""
    there = [value for value in values if value is not None]
    return len(there) - LEARNED


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", OBJECTS, ids=lambda stream: stream.__name__)
def test_no_false_alarm(stream, form):
    """5,000 messages as they always were; those of a kind that did not come before are learned first."""
    values = values_of(stream)
    watch = watched(map(FORMS[form], values))
    unjudged = watch.counts()[OF_NEW_KIND]

    assert (watch.violations, watch.failed, watch.counts()[NOT_COMPARED]) == ({}, 0, 0)
    assert watch.checked == compared(values) - unjudged
    assert unjudged == (900 if stream in (debezium_after_a_snapshot, debezium_with_its_schema) else 0)
    assert watch.evidence().stopped == []


@pytest.mark.parametrize("side", ["consumer", "producer"])
@pytest.mark.parametrize("stream", OTHERS, ids=lambda stream: stream.__name__)
def test_no_false_alarm_of_what_is_no_object(stream, side):
    """Bytes, texts, numbers."""
    watch = watched(values_of(stream), side)

    assert (watch.violations, watch.failed) == ({}, 0)
    assert (watch.source is None, watch.evidence().in_vain) == (stream in NO_JSON, stream in NO_JSON)


CHANGING = (null_until_later, debezium_after_a_snapshot, debezium_with_its_schema)


@pytest.mark.parametrize(
    "stream", sorted({*OBJECTS} - {*CHANGING}, key=OBJECTS.index), ids=lambda stream: stream.__name__
)
def test_both_sides_have_the_same_hash(stream):
    """One from objects, the other from bytes that it joined in later."""
    values = values_of(stream)

    assert watched(values[:2_000], "producer").hash == watched(map(as_json, values[777:2_777])).hash is not None


# --- breaks ---


def places(contract, value, path, walked):
    """Where a path leads in a value: pairs of (parent, key)."""
    step, rest = walked[0], walked[1:]
    if step == ITEM:
        found = [(at, item_path(path)) for at in range(len(value))] if type(value) is list else []
    elif type(value) is not dict:
        found = []
    elif step == "*":
        found = [(key, any_path(path)) for key in value if child_path(path, key) not in contract.fields]
    else:
        key = step_key(step)
        found = [(key, child_path(path, key))] if key in value else []
    for key, below in found:
        if rest:
            yield from places(contract, value[key], below, rest)
        else:
            yield value, key


def altered(contract, values):
    """Each way in which a value can break the contract: (kind, path, the value so altered)."""
    for path, field in contract.fields.items():
        walked = steps(path)
        types = set(field.types)
        for kind, other in (
            ("field_missing", None),
            ("became_null", None),
            ("type_changed", next((each for each in ("x", 7, True, [1]) if name_of(each) not in types), None)),
            ("int_to_float", 0.5),
        ):
            if not is_possible(kind, field, walked, types, other):
                continue
            for value in map(copy.deepcopy, values):
                place = next(
                    (each for each in places(contract, value, ROOT, walked) if may_differ(contract, kind, each)), None
                )
                if place is None:
                    continue
                parent, key = place
                if kind == "field_missing":
                    del parent[key]
                else:
                    parent[key] = other
                yield kind, path, value
                break


def name_of(value):
    return {str: "str", int: "int", bool: "bool", list: "array", float: "float"}[type(value)]


def is_possible(kind, field, walked, types, other):
    if not walked or not types - {"null"}:
        return kind == "field_missing" and field.required and bool(walked)
    if kind == "field_missing":
        return field.required
    if kind == "became_null":
        return "null" not in types
    if kind == "int_to_float":
        return "int" in types and "float" not in types
    return other is not None and not ("float" in types and name_of(other) == "int")


def may_differ(contract, kind, place):
    """What the key is today is not what it will be."""
    parent, key = place
    return kind != "int_to_float" or type(parent[key]) is int


def learned(stream):
    return watched([value for value in values_of(stream) if value is not None][:3_500])


@cache
def breaks_of(stream):
    """The breaks of each contract that is learned of a stream."""
    agreement, by_contract = learned(stream)._judge.agreement, {}
    for value in [value for value in values_of(stream) if value is not None][3_500:3_700]:
        by_contract.setdefault(agreement.judged_by(value), []).append(value)
    return [each for contract, samples in by_contract.items() for each in altered(contract, samples)]


@pytest.mark.parametrize("stream", OBJECTS, ids=lambda stream: stream.__name__)
def test_each_break_is_found_in_its_first_message(stream):
    """At each path that a contract knows, by its kind and path; in objects as in JSON."""
    watch, in_json = learned(stream), watched(map(behind_an_id, values_of(stream)[:4_500]))
    missed = []
    for kind, path, value in breaks_of(stream):
        for each, form in ((watch, value), (in_json, as_json(value))):
            each._judge.found.known.clear()
            send(each, form)
            if f"{path} {kind}" not in each.differing_paths:
                missed.append((kind, path, value))

    assert missed == []
    assert breaks_of(stream)


def test_what_breaks_there_are():
    """The test above tries all kinds, and hundreds of paths."""
    kinds = [kind for stream in OBJECTS for kind, _, _ in breaks_of(stream)]

    assert {kind: kinds.count(kind) > 40 for kind in set(kinds)} == {
        "field_missing": True,
        "became_null": True,
        "type_changed": True,
        "int_to_float": True,
    }


@pytest.mark.parametrize("stream", OBJECTS, ids=lambda stream: stream.__name__)
def test_the_whole_value_may_be_another(stream):
    """A number, a text, JSON that was written twice."""
    values = [value for value in values_of(stream) if value is not None]
    watch = watched(values[:2_500])
    for other in (7, "x", json.dumps(values[0])):
        watch._judge.found.known.clear()
        send(watch, other)
        assert watch.differing_paths == ["$ type_changed"]


@pytest.mark.parametrize(
    ("stream", "other", "kind"),
    [
        (strings, {"id": 1}, "type_changed"),
        (strings, 7, "type_changed"),
        (json_texts, {"id": 1}, "type_changed"),
        (integers, "7", "type_changed"),
        (integers, 7.5, "int_to_float"),
        (truths, 1, "type_changed"),
        (tombstones, {"id": 1}, "field_missing"),
        (objects_and_their_error, 7, "type_changed"),
        (objects_and_their_error, {}, "field_missing"),
        (json_and_compressed, b"{}", "field_missing"),
        (plain_bytes, b'{"a": "x"}', "type_changed"),
    ],
)
def test_breaks_of_what_is_no_object(stream, other, kind):
    watch = watched(values_of(stream))
    send(watch, other)

    assert watch.violations == {kind: 1}


@pytest.mark.parametrize("form", [as_json, behind_an_id])
def test_json_that_cannot_be_read(form):
    """Cut, compressed, empty."""
    watch = watched(map(form, values_of(integers_in_objects)[:2_000]))
    for value in (b'{"id": ', b"\x1f\x8b\x08", b"", b"\x00\x00\x00\x00\x07"):
        send(watch, value)

    assert watch.violations == {"unreadable": 4}


def integers_in_objects(_r, at):
    return {"id": at}


def test_there_are_enough_of_them():
    assert len(OBJECTS) * len(FORMS) + len(OTHERS) * 2 >= 81
    assert len(values_of(tombstones)) == MESSAGES
