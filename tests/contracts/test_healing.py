"""A difference from a learned contract that is as the stream has always been becomes part of it, and is said once."""

from __future__ import annotations

import pytest

from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.contracts.contracts import Contracts
from otel_pipeline.contracts.differences import Differences
from otel_pipeline.contracts.watch import ContractWatch
from otel_pipeline.engine.totals import Totals
from otel_pipeline.settings import DEFAULTS
from tests.limits import below_at_above

SECOND_NS = 1_000_000_000
QUARTER_S = 900
SIZE = 100


class Clock:
    def __init__(self):
        self.now_ns = SECOND_NS

    def __call__(self):
        return self.now_ns


class Stream:
    """A destination whose values come over time; what departs is chosen by the number of the value."""

    def __init__(self, **options):
        self.clock, self.said = Clock(), []
        self.watch = ContractWatch("orders", "consumer", clock_ns=self.clock, say=self.said.append, **options)
        self.at = 0
        self.send([order()] * 1_000)

    def send(self, values, producer=0):
        for value in values:
            self.at += 1
            self.watch.examine(value, SIZE, None, producer)

    def quarters(self, number, differing, of, value=None, producer=0):
        """A quarter of an hour each, in which so many values differ of so many."""
        for _ in range(number):
            self.clock.now_ns += QUARTER_S * SECOND_NS // 2
            self.send([value if value is not None else order(coupon=...)] * differing, producer)
            self.send([order()] * (of - differing))
            self.clock.now_ns += QUARTER_S * SECOND_NS // 2
            self.evidence = self.watch.evidence()

    @property
    def settled(self):
        return [str(each) for each in self.evidence.settled]


def order(**changed):
    """With fields that are gone where they are `...`."""
    fields = {"id": 1, "coupon": "x", "price": 2, **changed}
    return {name: value for name, value in fields.items() if value is not ...}


def test_it_is_said_in_the_log(caplog):
    """Once, for whoever reads it: nothing is to be done."""
    stream = Stream()
    stream.watch = Contracts(Totals(), DEFAULTS, clock_ns=stream.clock).of("orders", "consumer")
    stream.send([order()] * 1_000)
    with caplog.at_level("INFO", "otel_pipeline"):
        stream.quarters(7, 1, 1_000)

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "otel_pipeline: orders: coupon: absent in 0.1 %, optional after all")
    ]


@pytest.mark.parametrize(
    ("value", "said", "again"),
    [
        (order(coupon=...), "coupon: absent in 0.1 %, optional after all", "field_missing"),
        (order(coupon=None), "coupon: null in 0.1 %, null at times after all", "became_null"),
        (order(id="7"), "id: of another type in 0.1 %, of several types after all", "type_changed"),
        (order(note=1), "note: there in 0.1 %, optional after all", "field_added"),
        (order(price=2.5), "price: a fraction in 0.1 %, a number of any kind after all", "int_to_float"),
        ([order()], "$: of another type in 0.1 %, of several types after all", "type_changed"),
    ],
)
def test_what_has_always_been_so(value, said, again):
    """Once, with its share; then it is no difference any more, and the hash is the one that the other side has."""
    stream = Stream()
    before = stream.watch.hash
    stream.quarters(5, 1, 1_000, value)
    counted = dict(stream.watch.violations)
    stream.quarters(2, 1, 1_000, value)

    assert (stream.said, stream.settled) == ([f"orders: {said}"], [said])
    assert (stream.watch.violations, counted) == ({again: 5}, {again: 5})
    assert (stream.evidence.departures, stream.watch.hash) == ([], before)


def test_what_else_breaks_is_found_as_before():
    """One path became optional, no more."""
    stream = Stream()
    stream.quarters(5, 1, 1_000)
    stream.send([order(coupon=None), order(id=...), order(coupon=...)])

    assert stream.watch.violations == {"field_missing": 6, "became_null": 1}


@below_at_above("contracts.healing.QUARTERS", 5, [], ["coupon: absent in 0.1 %, optional after all"], [])
def test_an_hour(size, outcome):
    """Four quarters after the first look: not before, and not again."""
    stream = Stream()
    stream.quarters(size - 1, 1, 1_000)
    before = len(stream.said)
    stream.quarters(1, 1, 1_000)

    assert stream.said[before:] == [f"orders: {each}" for each in outcome]


@below_at_above("contracts.healing.RARE", 100, ["coupon: absent in 9.9 %, optional after all"], [], [])
def test_rare(size, outcome):
    """Under 10 % of the messages."""
    stream = Stream()
    stream.quarters(6, size, 1_000)

    assert stream.settled == outcome


@below_at_above("contracts.healing.QUARTER_NS", QUARTER_S * SECOND_NS, 0, 1, 1)
def test_a_quarter(size, outcome):
    """It is looked at as often."""
    stream = Stream()
    stream.watch.evidence()
    stream.send([order(coupon=...)])
    for _ in range(5):
        stream.clock.now_ns += size
        stream.send([order(coupon=...)] + [order()] * 100)
        stream.watch.evidence()

    assert len(stream.said) == outcome


def test_what_is_not_steady():
    """A quarter without, or one with too many, or one in which nothing came."""
    without, many, silent = Stream(), Stream(), Stream()
    for stream, differing, of in ((without, 0, 1_000), (many, 200, 1_000), (silent, 0, 0)):
        for _ in range(4):
            stream.quarters(3, 1, 1_000)
            stream.quarters(1, differing, of)

    assert [without.said, many.said, silent.said] == [[], [], []]


def test_an_hour_that_is_steady_after_one_that_was_not():
    """The last hour counts; but the difference is that of long ago."""
    stream = Stream()
    stream.quarters(1, 200, 1_000)
    stream.quarters(5, 1, 1_000)

    assert stream.settled == ["coupon: absent in 0.1 %, optional after all"]


def test_a_deployment_of_the_producer_is_no_exception():
    """Only producers that the contract was not learned from break it: it stays amber, however rare and steady."""
    stream = Stream()
    stream.watch = ContractWatch("orders", "consumer", clock_ns=stream.clock, say=stream.said.append)
    stream.send([order()] * 1_000, producer=7)
    stream.quarters(8, 1, 1_000, producer=8)
    assert stream.said == []

    stream.quarters(1, 1, 1_000, producer=7)
    assert stream.settled == ["coupon: absent in 0.1 %, optional after all"]


@pytest.mark.parametrize(("new_before", "said"), [(True, 0), (False, 1)])
def test_a_new_schema_is_a_deployment(new_before, said):
    """What began with it or later stays a difference; what was there before it does not."""
    stream = Stream()
    old, new = (b"\0\0\0\0" + bytes([number]) + b"\2" for number in (7, 8))
    stream.watch = ContractWatch("orders", "consumer", clock_ns=stream.clock, say=stream.said.append)
    stream.send([old] * 100)
    stream.send([order()] * 1_000)
    if new_before:
        stream.send([new])
    stream.quarters(1, 1, 1_000)
    stream.send([new])
    stream.quarters(5, 1, 1_000)

    assert len(stream.said) == said


def test_a_file_is_a_rule():
    """Nothing becomes optional that a person has declared."""
    contract = Contract("orders", {"$": Field(("object",), True), "coupon": Field(("str",), True)})
    stream = Stream(contract=contract)
    stream.quarters(8, 1, 1_000)

    assert (stream.said, stream.evidence.settled) == ([], [])
    assert stream.watch.contract is contract


def test_what_is_no_json_at_times():
    """It was taken for JSON after a hundred values that were; a deserializer that raises is an error, however rare."""
    stream, raising = Stream(), Stream()
    for each in (stream, raising):
        each.watch = ContractWatch("orders", "consumer", clock_ns=each.clock, say=each.said.append)
        each.send([b'{"id": 1}'] * 1_000)
    for _ in range(6):
        raising.watch.unreadable()
        for each in (stream, raising):
            each.clock.now_ns += QUARTER_S * SECOND_NS
            each.send([b'{"id": 1}'] * 1_000)
            each.send([b"\x1f\x8b"])
            each.watch.evidence()

    assert stream.said == ["orders: $: no JSON in 0.1 %, not always JSON after all"]
    assert stream.watch.violations == {"unreadable": 5}
    assert raising.said == []


def test_a_contract_without_room():
    """What finds no place stays a difference."""
    stream = Stream()
    stream.watch = ContractWatch("orders", "consumer", clock_ns=stream.clock, say=stream.said.append)
    wide = {f"f{at}": 1 for at in range(510)}
    stream.send([wide] * 1_000)
    for _ in range(6):
        stream.clock.now_ns += QUARTER_S * SECOND_NS
        stream.send([wide] * 100 + [{**wide, "a": 1, "b": 1}])
        stream.watch.evidence()

    assert stream.said == ["orders: a: there in 0.99 %, optional after all"]
    assert stream.watch.differing_paths == ["b field_added"]


@below_at_above("contracts.healing.MAX_SETTLED", 5, 4, 5, 5)
def test_what_is_kept_of_it(size, outcome):
    """The last five; each was said."""
    stream = Stream()
    wide = {f"f{at}": 1 for at in range(9)}
    stream.watch = ContractWatch("orders", "consumer", clock_ns=stream.clock, say=stream.said.append)
    stream.send([wide] * 1_000)
    for _ in range(5):
        stream.clock.now_ns += QUARTER_S * SECOND_NS
        stream.send([wide] * 1_000 + [{**wide, f"f{at}": None} for at in range(size)])
        evidence = stream.watch.evidence()

    assert (len(evidence.settled), len(stream.said)) == (outcome, size)


def learned_from(producers):
    found = Differences()
    for producer in producers:
        found.learned(producer)
    return found


@below_at_above("producers that a contract is learned from", 64, False, True, True)
def test_producers_that_are_learned_from(size, outcome):
    """With more than 64 nobody knows whether one is new."""
    found = learned_from(range(1, size + 1))
    found.differed({("a", "became_null"): "null"}, 4_711, 0)

    assert found.known["a", "became_null"].learned_from is outcome


@pytest.mark.parametrize(
    ("producers", "producer", "of_old"),
    [((), 7, True), ((7,), 7, True), ((7,), 8, False), ((7,), 0, True)],
)
def test_who_is_known_from_before(producers, producer, of_old):
    """Who gives no number says nothing of a deployment."""
    found = learned_from(producers)
    found.differed({("a", "became_null"): "null"}, producer, 0)

    assert found.known["a", "became_null"].learned_from is of_old


@below_at_above("contracts.differences.MAX_PRODUCERS", 64, 63, 64, 64)
def test_producers_that_are_told_apart(size, outcome):
    """Of what is compared, and of each difference."""
    found = Differences()
    for producer in range(1, size + 1):
        found.differed({("a", "became_null"): "null"}, producer, 0)

    assert (len(found.producers), len(found.known["a", "became_null"].producers)) == (outcome, outcome)


@below_at_above("contracts.differences.FORGOTTEN_NS", 3_600 * SECOND_NS, False, True, True)
def test_a_difference_that_is_long_gone_makes_room(size, outcome):
    """For a new one, after an hour: the one that was not met for longest."""
    found = Differences()
    for at in range(20):
        found.differed({(f"f{at}", "became_null"): "null"}, 0, at)
    found.differed({("f0", "became_null"): "null"}, 0, 50)
    found.differed({("new", "became_null"): "null"}, 0, 1 + size)

    assert (("new", "became_null") in found.known, ("f1", "became_null") in found.known) == (outcome, not outcome)
    assert (len(found.known), found.by_kind) == (20, {"became_null": 22})


def test_who_breaks_it():
    """The share, and the only one of several that does."""
    found = Differences()
    for producer in (0, 1, 2, 2, 3):
        found.kept(producer)
    missing, null = ("a", "field_missing"), ("b", "became_null")
    found.differed({missing: "", null: "null"}, 2, 5)
    found.differed({missing: ""}, 2, 1_000_000_005)
    found.differed({null: "null"}, 3, 2_000_000_005)

    one, several = found.departures(3_000_000_005)
    assert (one.path, one.kind, one.count, one.of, one.first_s, one.last_s) == ("a", "field_missing", 2, 3, 3.0, 2.0)
    assert (one.producer, one.producers, one.types) == (2, 3, ())
    assert (several.producer, several.producers, several.types, several.count) == (None, 3, ("null",), 2)
    assert found.producers == {1: 1, 2: 4, 3: 2}


def test_nobody_is_named_who_gives_no_number():
    """0 is no producer."""
    found = Differences()
    found.differed({("a", "field_missing"): ""}, 0, 0)

    assert [(each.producer, each.producers) for each in found.departures(0)] == [(None, 0)]
