"""What two sides of one stream have learned: the same hash, and no difference where there is none."""

from __future__ import annotations

from random import Random

import pytest

from otel_pipeline.contracts.comparing import apart
from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.contracts.contracts import Contracts
from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.engine.totals import Totals
from otel_pipeline.settings import Defaults


def learned(values):
    learner = ContractLearner("orders")
    for value in values:
        learner.learn(value)
    return learner.contract()


def stream(seed, absent):
    generator = Random(seed)
    return [{"id": 1, "a": {"x": 1}, **({} if generator.random() < absent else {"coupon": 1})} for _ in range(1_000)]


@pytest.mark.parametrize("absent", [0.0, 0.0005, 0.001, 0.003, 0.01, 0.03, 0.08])
def test_what_one_side_has_met_by_chance_is_not_in_the_hash(absent):
    """A field that is nearly always there, and was always there in the thousand messages of one side."""
    pairs = [(learned(stream(seed, absent)), learned(stream(1_000 + seed, absent))) for seed in range(8)]

    assert [one.hash == other.hash for one, other in pairs] == [True] * 8
    assert [apart(one, other) for one, other in pairs] == [False] * 8


@pytest.mark.parametrize(("missing", "in_the_hash"), [(49, True), (50, True), (51, False)])
def test_how_many_may_lack_it(missing, in_the_hash):
    """5 %."""
    contract = learned([{"id": 1}] * missing + [{"id": 1, "coupon": 1}] * (1_000 - missing))

    assert ("coupon" in contract.core, contract.fields["coupon"].required) == (in_the_hash, False)


@pytest.mark.parametrize(("values", "in_the_hash"), [(299, False), (300, True)])
def test_how_many_it_takes(values, in_the_hash):
    assert ("id" in learned([{"id": 1}] * values).core) is in_the_hash


def test_below_a_field_that_is_not_always_there_nothing_is_in_the_hash():
    contract = learned([{"a": {"x": 1}} if at % 10 else {} for at in range(1_000)])

    assert (list(contract.core), contract.fields["a.x"].required) == (["$"], True)


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ({"id": 1}, {"id": 1}, False),
        ({"id": 1}, {"id": 1, "new": 1}, True),
        ({"id": 1}, {"id": "1"}, True),
        ({"id": 1}, {"id": 1.5}, False),
        ({"id": 1}, {"id": None}, False),
        ({"a": {"x": 1}}, {"a": {"y": 1}}, True),
        ({"a": {"x": 1}}, {"a": [1]}, True),
        ([1], {"id": 1}, True),
        ("text", {"id": 1}, False),
        (b"\xff", {"id": 1}, False),
        ("text", 7, False),
        (7, {"id": 1}, True),
    ],
)
def test_sides_that_differ(one, other, differ):
    """Either way round. What a deserializer makes a text of is no other shape; null says nothing."""
    pair = learned([one] * 1_000), learned([other] * 1_000)

    assert (apart(*pair), apart(*reversed(pair))) == (differ, differ)


def test_a_rare_type_on_one_side():
    """Of the types of most values one has to be known on the other side."""
    one, other = learned([{"a": 1}] * 900 + [{"a": "x"}] * 100), learned([{"a": 1}] * 1_000)

    assert (apart(one, other), apart(other, one)) == (False, False)


def test_a_table_that_was_full():
    """What found no place on one side may have been there."""
    wide = {f"f{at}": 1 for at in range(600)}

    assert not apart(learned([wide] * 400), learned([dict(reversed(wide.items()))] * 400))


def test_files_are_the_same():
    """Both sides have the one of the destination, with what is optional in it."""
    contract = Contract("orders", {"$": Field(("object",), True), "a": Field((), False), "b": Field(("int",), False)})

    assert not apart(contract, Contract("orders", contract.fields))
    assert apart(contract, Contract("orders", {"$": Field(("object",), True), "a": Field((), False)}))


@pytest.mark.parametrize(("received", "differ"), [({"id": 1}, False), ({"id": "1"}, True)])
def test_the_evidence_of_a_process_that_does_both(received, differ):
    """Each side says it; while one is not known, nothing is."""
    contracts = Contracts(Totals(), Defaults())
    for side, value in (("producer", {"id": 1}), ("consumer", received)):
        watch = contracts.of("orders", side)
        assert not contracts.evidence("orders", side).sides_differ
        for _ in range(1_000):
            watch.examine(value, 1)

    assert [contracts.evidence("orders", side).sides_differ for side in ("producer", "consumer")] == [differ] * 2
