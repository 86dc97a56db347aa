"""Envelopes: a field that says the kind is found, and each kind has a contract of its own."""

from __future__ import annotations

import random

import pytest

from otel_pipeline.contracts.discriminator import DiscriminatorSearch, at, path_of
from otel_pipeline.contracts.kinds import Kinds
from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.contracts.measures import OF_NEW_KIND
from otel_pipeline.contracts.watch import ContractWatch
from tests.limits import below_at_above


class Clock:
    """A millisecond goes by at each look: nothing is dear."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        self.now_ns += 1_000
        return self.now_ns


def card():
    return {"type": "card", "number": "4", "until": 2030}


def bank():
    return {"type": "bank", "iban": "C", "bic": None}


def change(op, row=None):
    """An event of Debezium."""
    row = row or {"id": 1, "note": None}
    before, after = (row if op in "ud" else None), (None if op == "d" else row)
    return {"before": before, "after": after, "source": {"db": "shop"}, "op": op, "ts_ms": 1}


def watched(values):
    watch = ContractWatch("orders", "consumer", clock_ns=Clock())
    send(watch, values)
    return watch


def send(watch, values):
    for value in values:
        watch._clock_ns.now_ns += 1_000_000
        watch.check(value, 9)


def payments(number=1_000):
    return [card() if at % 2 else bank() for at in range(number)]


def without(value, key):
    return {name: item for name, item in value.items() if name != key}


def found(values):
    search = DiscriminatorSearch()
    for value in values:
        search.see(value)
    return search.found()


# --- which field says the kind ---


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (payments(100), (("type",), str)),
        ([{"head": {"kind": at % 2}, ("a", "b")[at % 2]: 1} for at in range(100)], (("head", "kind"), int)),
        (
            [{"ok": at % 2 == 0, **({"result": 1} if at % 2 == 0 else {"error": "x"})} for at in range(100)],
            (("ok",), bool),
        ),
        ([{"type": "ab"[at % 2], "body": {"ab"[at % 2]: {"x": 1}}} for at in range(100)], (("type",), str)),
        ([{"type": "ab"[at % 2], "body": {"x": {"ab"[at % 2]: 1}}} for at in range(100)], (("type",), str)),
        ([{"type": "ab"[at % 2], "a": 1 if at % 2 else None} for at in range(100)], (("type",), str)),
        ([change("r")] * 100, (("op",), str)),
        ([{"schema": {"type": "struct"}, "payload": change("r")}] * 100, (("payload", "op"), str)),
        # Of two fields that say it the one that leaves less open.
        (
            [{"shop": "xy"[at % 4 > 1], "type": "abcd"[at % 4], "abcd"[at % 4]: 1} for at in range(100)],
            (("type",), str),
        ),
        # Of two that leave as much open the one with fewer kinds.
        ([{"fine": at % 4, "type": "ab"[at % 2], "ab"[at % 2]: 1} for at in range(100)], (("type",), str)),
    ],
)
def test_a_field_that_says_the_kind(values, field):
    """Text, a number, true or false; at the top or one below; what it decides may lie three steps deep, or be null."""
    assert found(values) == field


@pytest.mark.parametrize(
    "values",
    [
        [{"city": "xyz"[at % 3], "id": at} for at in range(100)],
        [{"type": "ab"[at > 50], "ab"[at > 50]: 1} for at in range(100)],
        [{"id": f"n{at}", "ab"[at % 2]: 1} for at in range(100)],
        [{"price": float(at % 2), "ab"[at % 2]: 1} for at in range(100)],
        [{"type": "ab"[at % 2] * 65, "ab"[at % 2]: 1} for at in range(100)],
        [{"type": "ab"[at % 2] if at else 7, "ab"[at % 2]: 1} for at in range(100)],
        [{"type": "ab"[at % 2] if at != 50 else None, "ab"[at % 2]: 1} for at in range(100)],
        [{"type": "ab"[at % 2], 1: 2, "ab"[at % 2] if at else "a": 1} if at else {1: 2} for at in range(100)],
        [change("r")] * 99 + [{"id": 1}],
        [{"a": {"b": {"type": "ab"[at % 2], "ab"[at % 2]: 1}}} for at in range(100)],
    ],
    ids=[
        "decides nothing",
        "once",
        "an id",
        "a fraction",
        "long",
        "of two types",
        "null",
        "not there",
        "Debezium no more",
        "deep",
    ],
)
def test_a_field_that_says_none(values):
    """It decides no key, or is no name of a kind."""
    assert found(values) is None


@pytest.mark.parametrize("seed", range(20))
def test_chance_says_no_kind(seed):
    """Fields with few values beside others that come and go."""
    generator = random.Random(seed)
    values = [
        {
            **{f"s{at}": generator.choice("abcde") for at in range(8)},
            **{f"o{at}": 1 for at in range(20) if generator.random() < 0.5},
        }
        for _ in range(100)
    ]

    assert found(values) is None


@below_at_above(
    "contracts.discriminator.DECIDED_AFTER", 100, (None, False), ((("type",), str), True), ((("type",), str), True)
)
def test_how_many_are_looked_at(size, outcome):
    search = DiscriminatorSearch()
    for value in payments(size):
        search.see(value)

    assert (search.found(), search.is_over) == outcome


def test_a_search_without_candidates_is_over():
    """Nothing is walked for it any more."""
    search = DiscriminatorSearch()
    search.see({"id": 1.5})

    assert (search.is_over, search.found()) == (True, None)


@below_at_above("contracts.discriminator.MAX_KINDS", 20, True, True, False)
def test_kinds_of_a_field(size, outcome):
    """Two that are common, and others."""
    values = [{"type": "xy"[at % 2], "ab"[at % 2]: 1} for at in range(80)]
    values += [{"type": f"t{at % (size - 2)}"} for at in range(20)]

    assert (found(values) is not None) is outcome


@below_at_above("contracts.discriminator.COMMON", 10, False, True, True)
def test_how_many_show_what_a_kind_has(size, outcome):
    values = [card()] * (100 - size)
    for number in range(size):
        values.insert(2 * number, bank())

    assert (found(values) is not None) is outcome


@below_at_above("contracts.discriminator.SWITCHES", 10, False, False, True)
def test_changes_from_kind_to_kind(size, outcome):
    """The first of all counts as one."""
    runs = [[(card, bank)[at % 2]()] * 9 for at in range(size)]
    values = [value for run in runs for value in run]
    last = values[-1]

    assert (found([*values, *[last] * (100 - len(values))][:100]) is not None) is outcome


@below_at_above("contracts.discriminator.MAX_PATHS", 256, True, True, False)
def test_paths_that_are_looked_at(size, outcome):
    """What comes later decides nothing."""
    wide = {f"f{at}": 1.5 for at in range(size - 2)}

    assert (
        found([{**wide, "type": "ab"[at % 2], **({"b": 1} if at % 2 else {})} for at in range(100)]) is not None
    ) is outcome


@below_at_above("contracts.discriminator._MAX_CANDIDATES", 16, True, True, False)
def test_fields_that_are_tried(size, outcome):
    """The first ones."""
    others = {f"s{at}": "x" for at in range(size - 1)}

    assert (found([{**others, "type": "ab"[at % 2], "ab"[at % 2]: 1.5} for at in range(100)]) is not None) is outcome


@below_at_above("contracts.discriminator.MAX_LETTERS", 64, True, True, False)
def test_letters_of_a_kind(size, outcome):
    assert (found([{"type": "ab"[at % 2] * size, "ab"[at % 2]: 1} for at in range(100)]) is not None) is outcome


@below_at_above("contracts.discriminator._DEPTH", 3, True, True, False)
def test_how_deep_what_is_decided_may_lie(size, outcome):
    values = []
    for number in range(100):
        body = {"ab"[number % 2]: 1}
        for _ in range(size - 1):
            body = {"body": body}
        values.append({"type": "ab"[number % 2], **body})

    assert (found(values) is not None) is outcome


@pytest.mark.parametrize(("common", "outcome"), [(24, False), (25, True)])
def test_kinds_that_are_common_cover_half(common, outcome):
    """A field whose values are mostly rare explains little."""
    values = [{"type": "ab"[at % 2], "ab"[at % 2]: 1} for at in range(2 * common)]
    values += [{"type": f"t{at % 17}", "a": 1} for at in range(100 - 2 * common)]

    assert (found(values) is not None) is outcome


def test_where_a_field_stands():
    assert (at({"a": {"b": 1}}, ("a", "b")), at({"a": 1}, ("a", "b")), at([1], ("a",))) == (1, None, None)
    assert (path_of(("op",)), path_of(("pay.load", "op"))) == ("op", "pay\\.load.op")


# --- what is learned of each kind ---


@pytest.mark.parametrize(
    ("value", "differing"),
    [
        (card(), []),
        (bank(), []),
        (without(card(), "number"), ["number field_missing"]),
        (without(bank(), "iban"), ["iban field_missing"]),
        ({**card(), "iban": "C"}, ["iban field_added"]),
        ({**card(), "until": None}, ["until became_null"]),
        ({**bank(), "bic": 7}, []),
        (without(card(), "type"), ["type field_missing"]),
        ({**card(), "type": None}, ["type became_null"]),
        ({**card(), "type": 7}, ["type type_changed"]),
        ({**card(), "type": ["card"]}, ["type type_changed"]),
        ([card()], ["$ type_changed"]),
        ({**card(), "type": "x" * 65}, []),
    ],
)
def test_each_kind_is_judged_by_its_own(value, differing):
    """What says no kind is judged by what holds of all."""
    watch = watched(payments())
    send(watch, [value])

    assert (watch.differing_paths, watch.checked) == (differing, 1)


def test_a_new_kind_is_learned_and_not_judged():
    """Of its 300th value on it is known; until then it is counted as not judged."""
    watch = watched(payments())
    cash = {"type": "cash", "coins": 3}
    send(watch, [cash] * 298 + [{"type": "cash"}])
    unjudged, evidence = watch.counts()[OF_NEW_KIND], watch.evidence()
    send(watch, [cash, cash, {"type": "cash"}, card()])

    assert (unjudged, evidence.kinds_by, evidence.new_kinds) == (299, "type", 1)
    assert (watch.counts()[OF_NEW_KIND], watch.evidence().new_kinds) == (300, 0)
    assert (watch.checked, watch.differing_paths) == (3, [])
    send(watch, [{"type": "cash", "coins": "3"}])
    assert watch.differing_paths == ["coins type_changed"]


def test_a_rare_kind_is_judged_by_the_whole_until_it_is_known():
    """And goes on being learned from what is as agreed on."""
    rare = {"type": "cash", "coins": 3}
    watch = watched([rare if at % 5 == 4 else value for at, value in enumerate(payments())])
    send(watch, [without(rare, "coins"), {**rare, "number": "4"}, {**rare, "coins": "3"}])
    assert watch.differing_paths == ["coins type_changed"]

    send(watch, [rare] * 130)
    send(watch, [{**rare, "number": "4"}])
    assert watch.differing_paths == ["coins type_changed"]


def test_after_a_snapshot_come_updates_and_deletions():
    """The kinds of Debezium are known by their name, before a second one was seen."""
    watch = watched([change("r")] * 1_000)
    send(watch, [change(op) for at in range(300) for op in "cud"])
    assert (watch.violations, watch.checked, watch.counts()[OF_NEW_KIND]) == ({}, 0, 900)

    wrong = [
        {**change("u"), "before": None},
        {**change("d"), "after": {"id": 1, "note": None}},
        change("c", {"id": "1", "note": 1}),
    ]
    send(watch, [change("u"), change("d"), *wrong])
    assert watch.differing_paths == ["before became_null", "after.id type_changed"]


def test_fields_with_more_kinds_say_none():
    """From the 21st on all is judged by the whole again."""
    watch = watched(payments())
    send(watch, [{"type": f"t{at}", "x": at} for at in range(18)])
    assert (watch.differing_paths, watch.evidence().new_kinds) == ([], 18)

    send(watch, [{"type": "t18", "x": 1}])
    assert (watch.evidence().kinds_by, watch.evidence().new_kinds) == (None, 0)
    send(watch, [{"type": "t1", "x": 1}])
    assert watch.differing_paths == ["x field_added"]


@below_at_above("contracts.kinds.MAX_PATHS", 1_024, False, False, True)
def test_paths_of_all_kinds(size, outcome):
    """Each has one for the whole value, and one in reserve."""
    kinds = Kinds("orders", ("type",), str)
    for kind in range(4):
        kinds.learn({"type": f"t{kind}", **{f"f{number}": 1 for number in range(253)}})
    for number in range(size - 1_024):
        kinds.learn({"type": "t0", f"g{number}": 1})
    if size < 1_024:
        kinds = Kinds("orders", ("type",), str)

    assert kinds.is_full is outcome


@below_at_above("values of a kind that its contract is learned from", 300, False, True, True)
def test_values_of_a_kind(size, outcome):
    """At the end of learning, and after it."""
    for frozen in (False, True):
        kinds = Kinds("orders", ("type",), str)
        if frozen:
            kinds.freeze()
        for _ in range(size):
            kinds.learn({"type": "a", "x": 1})
        if not frozen:
            kinds.freeze()
        whole = ContractLearner("orders").contract()
        contract = kinds.of({"type": "a"}, whole)

        assert (contract is not None and contract is not whole) is outcome


def test_what_becomes_optional_does_so_in_each_kind():
    """Where the kind has the path, or room for it."""
    watch = watched(payments())
    agreement = watch._judge.agreement
    agreement.settle("number", "field_missing", ())
    agreement.settle("type", "type_changed", {"int"})
    agreement.settle("note", "field_added", ())
    send(watch, [without(card(), "number"), {**bank(), "note": 1}, without(bank(), "iban")])

    assert watch.differing_paths == ["iban field_missing"]


def test_values_of_other_classes_say_no_kind():
    """Only plain objects do; the others are judged by the whole."""

    class Message(dict):
        pass

    watch = watched(payments())
    send(watch, [Message(card()), Message(without(card(), "number"))])

    assert (watch.differing_paths, watch.checked) == ([], 2)


# --- fields that stopped while it was learned ---


def stopped(values, learn_messages=1_000):
    watch = ContractWatch("orders", "consumer", learn_messages=learn_messages, clock_ns=Clock())
    send(watch, values)
    return watch.evidence().stopped


@pytest.mark.parametrize(
    ("first", "second", "fields"),
    [
        ({"a": 1, "b": 1}, {"a": 1}, ["b"]),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 1}}, ["a.y"]),
        ({"a": {"x": {"y": 1}}}, {"a": {}}, ["a.x"]),
        ({"rows": [{"x": 1, "y": 1}]}, {"rows": [{"x": 1}]}, ["rows[].y"]),
        ({"a": 1}, {"b": 1}, ["a"]),
        ({"a": 1}, {"a": 1, "b": 1}, []),
        ({"a": 1}, {"a": None}, []),
        ({"a": {"x": 1}}, {"a": None}, []),
    ],
)
def test_fields_of_the_first_half_alone(first, second, fields):
    """In all of it, and in none of the second: they are named, and nothing below them is."""
    assert stopped([first] * 500 + [second] * 500) == fields


@pytest.mark.parametrize("at", [0, 499, 500, 999])
def test_one_exception_is_enough(at):
    """Then it is optional, as ever."""
    values = [{"a": 1, "b": 1}] * 500 + [{"a": 1}] * 500
    values[at] = {"a": 1} if at < 500 else {"a": 1, "b": 1}

    assert stopped(values) == []


@below_at_above("objects in each half of learning", 30, [], ["b"], ["b"])
def test_halves_of_few(size, outcome):
    """Thirty objects in each half say something."""
    assert stopped([{"a": 1, "b": 1}] * size + [{"a": 1}] * size, 2 * size) == outcome
    few = [{"p": {"b": 1}}] * size + [{}] * (500 - size)
    many = [{"p": {}}] * 100 + [{}] * 400
    assert stopped(few + many) == (["p.b"] if outcome else [])
    assert stopped([{"p": {"b": 1}}] * 100 + [{}] * 400 + [{"p": {}}] * size + [{}] * (500 - size)) == (
        ["p.b"] if outcome else []
    )


def test_keys_that_are_data_do_not_stop():
    """Below them fields may."""
    first = [{f"k{at % 100}": {"x": 1, "y": 1}} for at in range(500)]
    second = [{f"k{at % 100}": {"x": 1}} for at in range(500)]

    assert stopped(first + second) == ["*.y"]
