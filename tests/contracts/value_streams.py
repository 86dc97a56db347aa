"""Streams of values as applications have them: each a function of a generator of random numbers and a message's number."""

from __future__ import annotations

import json
import math
import struct
import uuid
from functools import cache
from random import Random

MESSAGES = 6_000
LEARNED = 1_000


def flat(_r, at):
    return {"id": at, "name": f"n{at}", "price": at + 0.5, "ok": at % 2 == 0, "city": "Bern"}


def order(r, at):
    return {
        "id": at,
        "customer": {"id": at, "name": "n", "tags": ["a"] * r.randrange(3)},
        "items": [{"sku": "a", "count": 1, "price": r.random()} for _ in range(r.randrange(1, 5))],
        "note": r.choice([None, "x"]),
    }


def union(r, _at):
    return r.choice([{"type": "card", "card": {"number": "4"}}, {"type": "bank", "iban": {"code": "x", "bic": 1}}])


def union_without_a_name(r, _at):
    return r.choice([{"card": {"number": "4", "until": 1}}, {"iban": {"code": "x"}}])


def optional(r, _at):
    return {"id": 1, **{name: name for name in "abcdefgh" if r.random() < 0.3}}


def rare_optional(r, at):
    return {"id": at, **({"debug": r.choice([None, {"trace": "x"}])} if r.random() < 0.02 else {})}


def nearly_always(r, at):
    return {"id": at, **({"coupon": "x"} if r.random() < 0.97 else {}), "n": None if r.random() < 0.03 else 1}


def optional_parents(r, _at):
    customer = {"id": 1, **({"vat": "x"} if r.random() < 0.2 else {})}
    return {"id": 1, **({"customer": customer} if r.random() < 0.5 else {}), "ship": r.choice([None, {"to": "x"}])}


def wide(r, at):
    return {f"f{number}": at for number in range(150) if number % 5 or r.random() < 0.9}


def sparse(r, _at):
    return {"id": 1, **{f"f{number}": 1 for number in range(60) if r.random() < 0.05}}


def nulls(r, _at):
    return {"id": 1, "a": r.choice([None, "x"]), "b": None, "c": r.choice([None, {"d": 1}, {"d": None}])}


def null_until_later(_r, at):
    return {"id": at, "score": None if at < 700 else 0.5}


def numbers(r, _at):
    return {"price": r.choice([1, 2.5]), "n": r.choice([3, 4.0, 7])}


def ints_that_are_floats_at_times(r, at):
    return {"id": at, "price": 2.5 if r.random() < 0.02 else 2, "whole": 3}


def ids_as_keys(r, _at):
    return {"total": 3, "positions": {str(r.randrange(10**9)): {"n": 1, "p": 2.5} for _ in range(r.randrange(6))}}


def ids_at_the_top(r, _at):
    return {f"user-{r.randrange(10**6)}": r.random() for _ in range(4)}


def ids_beside_names(r, at):
    return {"version": 1, "at": at, **{uuid.UUID(int=r.getrandbits(128)).hex: {"n": 1} for _ in range(2)}}


def ids_in_ids(r, _at):
    node = {"edges": {str(r.getrandbits(40)): 1.5 for _ in range(3)}}
    return {"nodes": {uuid.UUID(int=r.getrandbits(128)).hex: node for _ in range(3)}}


def growing_map(r, at):
    return {"by_user": {f"u{r.randrange(at + 1)}": at for _ in range(10)}}


def one_id_at_a_time(_r, at):
    return {"prices": {f"sku-{at}": 2.5}}


def days(_r, at):
    return {"days": {f"2026-{1 + at % 12:02}-{1 + at % 28:02}": at, "last": at}}


def hours(r, _at):
    return {"by_hour": {f"{hour:02}": 1 for hour in range(24) if r.random() < 0.8}}


def languages(r, _at):
    return {"name": {f"l{r.randrange(40)}": "x" for _ in range(3)}, "id": 1}


def sensor(r, at):
    return {"ts": at, "values": {f"s{r.randrange(40)}": r.gauss(0, 1) for _ in range(8)}}


def nested(r, _at):
    return {"rows": [[r.randrange(9) for _ in range(r.randrange(4))] for _ in range(r.randrange(12))]}


def mixed_items(r, _at):
    return {"items": [r.choice(["x", 1, 2.5, None, {"a": 1}, [1]]) for _ in range(r.randrange(6))]}


def items_by_type(r, _at):
    return {"items": [r.choice([{"t": "a", "x": 1}, {"t": "b", "y": "s"}]) for _ in range(3)]}


def list_at_the_top(r, _at):
    return [{"x": r.random(), "label": r.choice(["a", None])} for _ in range(r.randrange(4))]


def any_type(r, _at):
    return {"key": "k", "value": r.choice([1, 2.5, "x", True, None, [1], {"a": 1}])}


def deep(r, _at):
    return {"a": {"b": {"c": {"d": {"e": {"f": {"g": r.choice([1, "x"])}}}}}}}


def features(r, at):
    return {"id": at, "features": [r.random() for _ in range(50)], "label": at % 2}


def odd_keys(_r, at):
    return {"a.b": at, "": 1, "ü": {"$": 1, "*": "x"}, "[]": [at], '"': None}


def odd_numbers(r, _at):
    return {"x": r.choice([math.nan, math.inf, 1e300]), "big": 2**80, "flag": r.choice([0, 1, True, False])}


def result_or_error(r, at):
    ok = r.random() < 0.7
    return {"ok": ok, "id": at, **({"result": {"n": 1}} if ok else {"error": "x", "code": 5})}


def versions(r, _at):
    version = r.choice([1, 2, 3])
    return {"v": version, "a": 1, **({"b": "x"} if version > 1 else {}), **({"c": [1]} if version > 2 else {})}


def cloud_events(r, at):
    kind = r.choice(["made", "paid", "sent"])
    data = {"made": {"items": 3}, "paid": {"amount": 2.5, "by": "card"}, "sent": {"to": {"city": "x"}}}[kind]
    return {"specversion": "1.0", "id": str(at), "type": f"order.{kind}", "source": "/shop", "data": data}


def rare_kinds(r, at):
    kind = "rare" if r.random() < 0.01 else r.choice(["a", "b"])
    return {"type": kind, "id": at, kind: {"x": 1}}


def _row(at):
    return {"id": at, "name": f"n{at}", "price": 1.5, "note": None if at % 3 else "x"}


def _change(at, op):
    return {
        "before": _row(at) if op in "ud" else None,
        "after": None if op == "d" else _row(at),
        "source": {"connector": "postgresql", "snapshot": "false" if op != "r" else "true", "lsn": at, "xmin": None},
        "op": op,
        "ts_ms": at,
        "transaction": None,
    }


def debezium(r, at):
    """Updates, insertions, deletions; a deletion is followed by a tombstone."""
    return r.choice([None, *(_change(at, op) for op in "cuudd")])


def debezium_after_a_snapshot(r, at):
    """All rows as they are; then changes begin."""
    return _change(at, "r") if at < 1_100 else debezium(r, at)


def debezium_with_its_schema(r, at):
    change = debezium_after_a_snapshot(r, at)
    return change and {"schema": {"type": "struct", "fields": [{"field": "id"}], "optional": False}, "payload": change}


def tombstones(r, at):
    return None if r.random() < 0.25 else {"id": at, "v": "x"}


def log_lines(r, at):
    extra = {f"k{r.randrange(200)}": r.choice([1, "x", None, [1]]) for _ in range(r.randrange(4))}
    return {"time": at, "level": r.choice(["info", "warn"]), "message": "x", "extra": extra}


OBJECTS = (
    *(flat, order, union, union_without_a_name, optional, rare_optional, nearly_always, optional_parents, wide),
    *(sparse, nulls, null_until_later, numbers, ints_that_are_floats_at_times, ids_as_keys, ids_at_the_top),
    *(ids_beside_names, ids_in_ids, growing_map, one_id_at_a_time, days, hours, languages, sensor, nested, mixed_items),
    *(items_by_type, list_at_the_top, any_type, deep, features, odd_keys, odd_numbers, result_or_error, versions),
    *(cloud_events, rare_kinds, debezium, debezium_after_a_snapshot, debezium_with_its_schema, tombstones, log_lines),
)


def avro(_r, at):
    return b"\0\0\0\0\7" + struct.pack(">I", at) + b"\2\x08ab"


def protobuf(r, at):
    return b"\x08" + struct.pack("<I", at) + b"\x12\x02ab" + r.randbytes(3)


def glue(r, _at):
    return b"\3\0" + bytes(16) + r.randbytes(5)


def plain_bytes(r, _at):
    return r.choice([b"[info] started", b"plain", b'{"a": 1}', b"{", r.randbytes(20)])


def numbers_as_text(_r, at):
    return str(at).encode() if at < 1_100 else f"{at}.5".encode()


def json_and_compressed(_r, at):
    return json.dumps({"id": at}).encode() if at % 2 else b"\x1f\x8b\x08" + bytes(10)


def empty_bytes(_r, _at):
    return b""


def strings(r, at):
    return r.choice(["plain", '{"id": 1}', "[1]", "{", "7", "", f"n{at}"])


def json_texts(_r, at):
    return json.dumps({"id": at})


def integers(_r, at):
    return at


def fractions(r, _at):
    return r.choice([1, 2.5])


def truths(_r, at):
    return at % 2 == 0


def objects_and_their_error(r, at):
    """What a deserializer makes that gives the text where it is no JSON."""
    return "oops" if r.random() < 0.02 else {"id": at}


OTHERS = (
    *(avro, protobuf, glue, plain_bytes, numbers_as_text, json_and_compressed, empty_bytes, strings, json_texts),
    *(integers, fractions, truths, objects_and_their_error),
)


@cache
def values_of(stream):
    generator = Random(7)
    return tuple(stream(generator, at) for at in range(MESSAGES))


def as_json(value):
    return None if value is None else json.dumps(value).encode()


def behind_an_id(value):
    return None if value is None else b"\0\0\0\0\7" + json.dumps(value).encode()


FORMS = {"objects": lambda value: value, "JSON": as_json, "behind an id": behind_an_id}
