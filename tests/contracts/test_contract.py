"""Contracts: what is learned from a stream, what is said of a value, and the bounds of both."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_pipeline.contracts.contract import MAX_PATHS, Contract, Field
from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.contracts.paths import ContractError, child_path, step_key, steps


def order(at=0):
    return {
        "id": at,
        "name": f"n{at}",
        "price": 9.5 + at,
        "customer": {"id": at, "city": "Bern"},
        "items": [{"sku": "a", "count": 1}],
    }


def learned(values, topic="orders"):
    learner = ContractLearner(topic)
    for value in values:
        learner.learn(value)
    return learner.contract()


ORDERS = learned(order(at) for at in range(1000))


def changed(**fields):
    return {**order(), **fields}


def without(key):
    return {name: value for name, value in order().items() if name != key}


def test_the_table():
    """A path for each field, with types, required where every parent has it."""
    assert dict(ORDERS.fields) == {
        "$": Field(("object",), True),
        "id": Field(("int",), True),
        "name": Field(("str",), True),
        "price": Field(("float",), True),
        "customer": Field(("object",), True),
        "customer.id": Field(("int",), True),
        "customer.city": Field(("str",), True),
        "items": Field(("array",), True),
        "items[]": Field(("object",), False),
        "items[].sku": Field(("str",), True),
        "items[].count": Field(("int",), True),
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (order(), []),
        (changed(coupon="x"), [("coupon", "field_added")]),
        (without("name"), [("name", "field_missing")]),
        (changed(name=4), [("name", "type_changed")]),
        (changed(name=None), [("name", "became_null")]),
        (changed(id=4.0), [("id", "int_to_float")]),
        (changed(price=4), []),
        (changed(price="4"), [("price", "type_changed")]),
        (changed(id=True), [("id", "type_changed")]),
        (changed(customer=None), [("customer", "became_null")]),
        (changed(customer=[]), [("customer", "type_changed")]),
        (changed(customer={"id": 1}), [("customer.city", "field_missing")]),
        (changed(customer={"id": 1, "city": "x", "zip": 1}), [("customer.zip", "field_added")]),
        (changed(items=[]), []),
        (changed(items=[{"sku": "a"}] * 3), [("items[].count", "field_missing")]),
        (changed(items=[{"sku": "a", "count": 1}, None]), [("items[]", "became_null")]),
        (changed(items={"sku": 1}), [("items", "type_changed")]),
        ([], [("$", "type_changed")]),
        ("text", [("$", "type_changed")]),
    ],
)
def test_differences(value, expected):
    """Each with its path and kind, once."""
    assert ORDERS.differences(value) == expected


def test_required_needs_300_parents():
    """Of 299 nobody knows."""
    few, enough = (learned({"a": 1} for _ in range(count)) for count in (299, 300))

    assert (few.differences({}), enough.differences({})) == ([], [("a", "field_missing")])


def test_presence_is_of_the_parent():
    """A branch of a union is required to be whole where it is, not to be there."""
    contract = learned({"card": {"number": "4"}} if at % 2 else {"iban": {"code": "C"}} for at in range(1000))

    assert contract.differences({"card": {"number": "1"}}) == []
    assert contract.differences({"card": {}}) == [("card.number", "field_missing")]


def test_only_null_seen_is_not_judged():
    """It may become anything."""
    contract = learned({"a": None} for _ in range(1000))

    assert [contract.differences({"a": value}) for value in (1, "x", {"b": 1}, [1], None)] == [[]] * 5
    assert contract.differences({}) == [("a", "field_missing")]


def test_rare_fields_have_no_type_yet():
    """A field met a few times may well be null the next time."""
    contract = learned({"id": 1, **({"note": "x"} if at % 100 == 0 else {})} for at in range(1000))

    assert contract.fields["note"] == Field((), False)
    assert contract.differences({"id": 1, "note": None}) == []


def test_dynamic_keys_fold():
    """Keys that are ids are one path; those that always come stay named."""
    contract = learned({"total": 1, **{uuid.uuid4().hex: {"n": 1} for _ in range(3)}} for _ in range(1000))

    assert set(contract.fields) == {"$", "total", "*", "*.n"}
    assert contract.differences({"total": 1, "new": {"n": 2}}) == []
    assert contract.differences({"new": {"n": "2"}}) == [("total", "field_missing"), ("*.n", "type_changed")]


def test_many_optional_fields_stay_named():
    """32 of them are names still."""
    generator = random.Random(1)
    contract = learned({f"f{at}": 1 for at in range(32) if generator.random() < 0.4} for _ in range(1000))

    assert len(contract.fields) == 33


def test_wide_objects_stay_named():
    """Many fields that always come are no ids."""
    contract = learned({f"f{at}": at for at in range(300)} for _ in range(400))

    assert len(contract.fields) == 301
    assert contract.differences({f"f{at}": at for at in range(299)}) == [("f299", "field_missing")]


def test_a_full_table_says_nothing_of_other_fields():
    """What found no place is not taken for new."""
    values = [{f"f{at}": {"x": 1} for at in range(600)} for _ in range(400)]
    contract = learned(values)

    assert len(contract.fields) <= MAX_PATHS
    assert contract.differences(values[0]) == []


def test_depth_is_bounded():
    """Below six steps nothing is judged."""
    value = {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}
    contract = learned([value] * 400)

    assert max(contract.fields, key=len) == "a.a.a.a.a.a"
    assert contract.differences({"a": {"a": {"a": {"a": {"a": {"a": {"b": "x"}}}}}}}) == []


def test_a_cycle_ends():
    """At the depth that is looked at."""
    value = {}
    value["self"] = value

    assert learned([value] * 400).differences(value) == []


def test_the_hash_is_of_the_core():
    """What one side has met by chance is not in it."""
    one = learned(order(at) for at in range(1000))
    other = learned({**order(at), **({"rare": 1} if at == 7 else {})} for at in range(1000))
    different = learned({**order(at), "new": 1} for at in range(1000))

    assert (one.hash == other.hash, one.hash == different.hash, len(one.hash)) == (True, False, 16)


def test_the_hash_is_the_same_in_every_process():
    """Whatever PYTHONHASHSEED says."""
    program = (
        "from otel_pipeline.contracts.contract import Contract, Field\n"
        "print(Contract('t', {'$': Field(('object',), True), 'a': Field(('int', 'null'), False)}).hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(hashes) == 1


def test_a_file_holds_the_whole():
    """What is read back judges alike; its hash is of the table."""
    back = Contract.loads(ORDERS.dumps())

    assert (back.fields, back.topic) == (ORDERS.fields, "orders")
    assert back.hash == ORDERS.to_json()["hash"] == Contract("orders", ORDERS.fields).hash
    assert back.differences(without("name")) == [("name", "field_missing")]


def test_a_file_holds_no_values():
    """Shape only."""
    text = learned({"secret": f"value-{at}", "n": 123456 + at} for at in range(400)).dumps()

    assert [word for word in ("value-", "12345") if word in text] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "no mapping `fields`"),
        ('{"schema": 2, "topic": "t", "fields": {}}', "`schema` is 2"),
        ('{"schema": 1, "fields": {}}', "`topic`"),
        ('{"schema": 1, "topic": "t", "fields": {"a": {"types": ["text"], "required": true}}}', "`types` of 'a'"),
        ('{"schema": 1, "topic": "t", "fields": {"a": {"types": ["int"]}}}', "`required` of 'a'"),
        ('{"schema": 1, "topic": "t", "fields": {"a..b": {"types": ["int"], "required": true}}}', "no path"),
        ('{"schema": 1, "topic": "t", "fields": {"a": 1}}', "no field"),
        ('{"schema": 1, "topic": "t", "fields": {"a": {"types": ["int"], "required": true}}}', "has no row, 'a' below"),
    ],
)
def test_what_is_no_contract(text, said):
    """Is refused with a sentence."""
    with pytest.raises(ContractError, match=said):
        Contract.loads(text)


@dataclass
class Point:
    x: int
    y: float


class Model:
    def model_dump(self):
        return {"x": 1, "y": 2.0}


class Color(Enum):
    RED = "red"


Pair = namedtuple("Pair", "x y")  # noqa: PYI024


@pytest.mark.parametrize("value", [Point(1, 2.0), Model(), Pair(1, 2.0), OrderedDict(x=1, y=2.0), UserDict(x=1, y=2.0)])
def test_objects_are_seen_as_their_fields(value):
    """Dataclasses, pydantic's models, named tuples, mappings."""
    contract = learned([{"x": 1, "y": 2.0}] * 400)

    assert contract.differences(value) == []
    assert learned([value] * 400).fields == contract.fields


def test_other_values_are_seen_as_json_would_have_them():
    """Dates and decimals as text, tuples and sets as arrays, an enumeration as its value."""
    value = {
        "a": datetime.now(timezone.utc),
        "b": Decimal(1),
        "c": (1,),
        "d": {1},
        "e": deque([1]),
        "f": Color.RED,
        "g": bytearray(b"x"),
        "h": MappingProxyType({"x": 1}),
        3: 1,
        None: 1,
        True: 1,
    }
    fields = learned([value] * 400).fields

    assert {path: " ".join(field.types) for path, field in fields.items()} == {
        "$": "object",
        "a": "str",
        "b": "str",
        "c": "array",
        "c[]": "int",
        "d": "array",
        "d[]": "int",
        "e": "array",
        "e[]": "int",
        "f": "str",
        "g": "bytes",
        "h": "object",
        "h.x": "int",
        "3": "int",
        "null": "int",
        "true": "int",
    }
    assert Contract("t", fields).differences(value) == []


class Hostile(dict):
    def items(self):
        raise RuntimeError

    def __getattr__(self, name):
        raise RuntimeError


keys = st.one_of(
    st.text(max_size=6), st.integers(), st.none(), st.booleans(), st.sampled_from([".", "[]", "*", "$", '""'])
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=4))
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=40)


@settings(max_examples=150)
@given(st.lists(values, max_size=8))
def test_what_was_learned_does_not_differ(seen):
    """Nor after the way through a file; and the table is bounded."""
    contract = learned(seen * 40)
    back = Contract.loads(contract.dumps())

    assert [contract.differences(value) for value in seen] == [[]] * len(seen)
    assert [back.differences(value) for value in seen] == [[]] * len(seen)
    assert len(contract.fields) <= MAX_PATHS


@settings(max_examples=30)
@given(st.integers(1, 700), st.integers(1, 30), st.integers(1, 20), st.integers())
def test_the_table_is_bounded(width, inner, messages, seed):
    """However many keys there are, and wherever."""
    generator = random.Random(seed)
    contract = learned(
        {
            f"k{generator.randrange(width)}": {f"i{generator.randrange(inner)}": [at] for at in range(inner)}
            for _ in range(width)
        }
        for _ in range(messages)
    )

    assert len(contract.fields) <= MAX_PATHS


@settings(max_examples=150)
@given(values, values)
def test_a_match_has_no_differences(one, other):
    """The quick answer and the long one agree."""
    contract = learned([one] * 300)

    assert not (contract.matches(other) and contract.differences(other))


@given(st.lists(st.text(min_size=0, max_size=5), min_size=1, max_size=6))
def test_paths_are_read_back(names):
    """Whatever letters the keys have."""
    path = "$"
    for name in names:
        path = child_path(path, name)

    assert [step_key(step) for step in steps(path)] == names


def test_mocks_are_values():
    """Their every attribute is there, and none of it is asked."""
    assert learned([MagicMock()] * 3).fields["$"].types == ("object",)
