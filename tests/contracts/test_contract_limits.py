"""Bounds of contracts: how much of a value is looked at, what is learned from how many, and what is kept."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from otel_pipeline.contracts.checking import compiled, differ
from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.contracts.contracts import Contracts
from otel_pipeline.contracts.fields import FieldsHealth
from otel_pipeline.contracts.files import contract_in
from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.contracts.paths import ContractError
from otel_pipeline.contracts.sampling import Sampler
from otel_pipeline.contracts.schema_ids import SchemaIds, registry_id
from otel_pipeline.contracts.text import NOT_READ, NOTHING, TextReader
from otel_pipeline.contracts.watch import ContractWatch
from otel_pipeline.engine.totals import Totals
from otel_pipeline.settings import Defaults
from tests.limits import below_at_above

ROOT = {"$": Field(("object",), True)}


def learned(values):
    learner = ContractLearner("orders")
    for value in values:
        learner.learn(value)
    return learner.contract()


def agreed(**fields):
    """A contract of optional fields with one type each."""
    return Contract("orders", {**ROOT, **{name: Field((kind,), False) for name, kind in fields.items()}})


@contextmanager
def refused(said):
    """With these words, or not at all."""
    if said is None:
        yield
        return
    with pytest.raises(ContractError) as raised:
        yield
    assert str(raised.value) == said


class Clock:
    """Each look is `step_ns` later."""

    def __init__(self, step_ns=0):
        self.now_ns, self.step_ns = 0, step_ns

    def __call__(self):
        self.now_ns += self.step_ns
        return self.now_ns


def watched(**options):
    return ContractWatch("orders", "consumer", **{"clock_ns": Clock(1), **options})


# --- of one value ---


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@below_at_above("contracts.values.MAX_DEPTH", 6, 6, 7, 7)
def test_the_depth_that_is_learned(size, outcome):
    """Six steps below the value itself."""
    assert len(learned([nested(size)] * 300).fields) == outcome


@below_at_above("contracts.values.MAX_DEPTH", 6, 6, 7, 7)
def test_the_depth_of_arrays_that_is_learned(size, outcome):
    """As deep."""
    value = 1
    for _ in range(size):
        value = [value]

    assert len(learned([value] * 300).fields) == outcome


@below_at_above("contracts.values.MAX_DEPTH", 6, None, None, "'a.a.a.a.a.a.a' is deeper than 6")
def test_the_depth_of_a_contract(size, outcome):
    """A path of seven steps is refused."""
    paths = [".".join("a" * steps) for steps in range(1, size + 1)]
    with refused(outcome):
        Contract("orders", {**ROOT, **{path: Field(("object",), False) for path in paths}})


@below_at_above("contracts.values.MAX_ITEMS", 8, ["str"], ["str"], [])
def test_the_items_that_are_looked_at(size, outcome):
    """The first eight: learned, compared, and asked for by name."""
    value = {"a": [*[1] * (size - 1), "x"]}
    health = FieldsHealth(["a[]"])
    health.look(value)
    contract = Contract("orders", {**ROOT, "a": Field(("array",), False), "a[]": Field(("int",), False)})
    types = learned([value] * 300).fields["a[]"].types

    assert [kind for kind in types if kind != "int"] == outcome
    assert contract.differences(value) == [("a[]", "type_changed")] * len(outcome)
    assert contract.matches(value) is not bool(outcome)
    assert health.by_path["a[]"].values == min(size, 8)


@below_at_above("contracts.values.MAX_KEYS", 1_024, "type_changed", "type_changed", None)
def test_the_fields_of_an_object_that_are_looked_at(size, outcome):
    """The first 1,024: compared, and asked for by name."""
    value = {**{f"k{at}": 1 for at in range(size - 1)}, "last": "x"}
    contract = Contract("orders", {**ROOT, "*": Field(("int",), False)})
    health = FieldsHealth(["*"])
    health.look(value)

    assert [kind for _path, kind in contract.differences(value)] == ([] if outcome is None else [outcome])
    assert health.by_path["*"].values == min(size, 1_024)


@below_at_above("contracts.values.MAX_KEYS", 1_024, True, True, False)
def test_a_huge_object_is_not_matched_at_a_glance(size, outcome):
    """It goes the long way."""
    contract = Contract("orders", {**ROOT, "*": Field(("int",), False)})

    assert contract.matches({f"k{at}": 1 for at in range(size)}) is outcome


@below_at_above("contracts.values.MAX_KEY_LETTERS", 128, "k" * 127, "k" * 128, "*")
def test_the_letters_of_a_name_that_is_learned(size, outcome):
    """What is longer is data."""
    assert outcome in learned([{"k" * size: 1}] * 300).fields


@below_at_above("contracts.values.MAX_KEY_LETTERS", 128, 127, 128, 128)
def test_the_letters_of_a_name_that_is_said(size, outcome):
    """A field that was added is named by its first 128."""
    ((path, kind),) = agreed(a="int").differences({"k" * size: 1})

    assert (path, kind) == ("k" * outcome, "field_added")


@below_at_above("contracts.checking.MAX_ADDED", 32, 31, 32, 32)
def test_unknown_fields_that_are_said(size, outcome):
    """Of one object 32."""
    found = agreed(a="int").differences({f"k{at}": 1 for at in range(size)})

    assert [kind for _path, kind in found] == ["field_added"] * outcome


@below_at_above("contracts.checking.MAX_DIFFERENCES", 512, 2, 1, 1)
def test_unknown_fields_beside_other_differences(size, outcome):
    """None once there are 512 differences; what is known is judged all the same."""
    found = {("before", str(at)): None for at in range(size)}
    differ(compiled(agreed(a="int").fields), {"new": 1, "a": "x"}, found)

    assert len(found) - size == outcome


@below_at_above("contracts.contract.MAX_PATHS", 512, None, None, "513 paths; a contract has at most 512")
def test_paths_of_a_contract(size, outcome):
    """512, the value itself among them."""
    with refused(outcome):
        agreed(**{f"k{at}": "int" for at in range(size - 1)})


# --- of learning ---


@below_at_above("contracts.learning.REQUIRED_PARENTS", 300, False, True, True)
def test_when_a_field_is_required(size, outcome):
    """When all of 300 objects had it."""
    assert learned([{"a": 1}] * size).fields["a"].required is outcome


@below_at_above("contracts.learning.KNOWN_VALUES", 30, (), ("int",), ("int",))
def test_when_the_type_of_a_rare_field_is_known(size, outcome):
    """After 30 values."""
    assert learned([{"a": 1}] * size + [{"b": 1}] * 500).fields["a"].types == outcome


@below_at_above("contracts.learning.CORE_SHARE", 50, False, True, True)
def test_types_of_a_field_in_the_hash(size, outcome):
    """Those of 5 % of its values."""
    with_text = learned([{"a": "x"}] * size + [{"a": None}] * (1_000 - size))
    without = learned([{"a": None}] * 1_000)

    assert (with_text.hash != without.hash) is outcome


@below_at_above("contracts.learning.MAX_NAMED", 32, False, False, True)
def test_rare_keys(size, outcome):
    """More than 32 of one object are data, and no names; those that are always there stay named."""
    values = [{"always": 1, f"k{at % size}": 1} for at in range(40 * size)]

    assert [path for path in ("*", "always") if path in learned(values).fields] == ["*", "always"][not outcome :]


@below_at_above("contracts.learning.FOLD_PARENTS", 20, False, True, True)
def test_objects_before_keys_are_data(size, outcome):
    """Twenty, of the object itself: fewer may be a matter of chance."""
    values = [{f"k{at}-{key}": 1 for key in range(3)} for at in range(size)]

    assert ("*" in learned(values).fields) is outcome


@below_at_above("contracts.learning.FOLD_KEYS", 128, False, False, True)
def test_keys_that_are_data_whatever_comes(size, outcome):
    """More than 128 in the first few objects."""
    values = [{f"k{at}-{key}": 1 for key in range(60)} for at in range(2)]
    values.append({f"k2-{key}": 1 for key in range(size - 120)})

    assert ("*" in learned(values).fields) is outcome


# --- of texts ---


@below_at_above("contracts.text.SURE_AFTER", 100, NOTHING, NOT_READ, NOT_READ)
def test_when_texts_are_sure_to_be_json(size, outcome):
    """After a hundred; from then on one that is not is unreadable."""
    reader = TextReader(expected=False)
    for _ in range(size):
        reader.read(b"{}")

    assert reader.read(b"no") is outcome


@below_at_above("contracts.text._SNIFFED", 64, {}, NOTHING, NOTHING)
def test_white_space_before_json(size, outcome):
    """Up to 64 characters are looked at."""
    found = [TextReader(expected=False).read(text) for text in (" " * size + "{}", b" " * size + b"{}")]

    assert found == [outcome, outcome]


@below_at_above("contracts.schema_ids.MAX_IDS", 16, {"id 14": 1}, {"id 15": 1}, {"other": 1})
def test_schema_ids(size, outcome):
    """Sixteen, and all others together."""
    schemas = SchemaIds(1000)
    for number in range(size):
        schemas.unframed(b"\x00" + number.to_bytes(4, "big") + b"{}")

    assert dict([dict(schemas.counts).popitem()]) == outcome


@pytest.mark.parametrize(
    ("first", "size", "name"),
    [
        (b"\x00", 5, "id 16843009"),
        (b"\x01", 17, "guid " + str(uuid.UUID("01" * 16))),
        (b"\xc3\x01", 10, f"avro {'01' * 8}"),
    ],
    ids=["id", "guid", "avro"],
)
def test_ids_that_are_cut(first, size, name):
    """Bytes that end before the id does have none."""
    value = first + b"\x01" * 20

    assert [registry_id(value[:length]) for length in (size - 1, size, size + 1)] == [
        ("", 0),
        (name, size),
        (name, size),
    ]


# --- of a watch ---


@below_at_above("contracts.fields.MAX_FIELDS", 32, None, None, "33 fields are asked for; at most 32 are looked at")
def test_fields_that_are_asked_for(size, outcome):
    """At most 32."""
    with refused(outcome):
        FieldsHealth(f"k{at}" for at in range(size))


@below_at_above("contracts.differences.MAX_DIFFERING", 20, 19, 20, 20)
def test_differences_that_are_kept(size, outcome):
    """The first twenty; all are counted."""
    watch = watched(contract=agreed(**{f"k{at}": "int" for at in range(30)}))
    for at in range(size):
        watch.examine({f"k{at}": "x"}, 1)

    assert (len(watch.differing_paths), watch.violations) == (outcome, {"type_changed": size})


@below_at_above("the messages that a contract is learned from", 50, None, "learned", "learned")
def test_when_a_contract_is_learned(size, outcome):
    """After as many messages as asked for."""
    watch = watched(learn_messages=50)
    for at in range(size):
        watch.examine({"a": at}, 1)

    assert (watch.source, watch.learned) == (outcome, min(size, 50))


@pytest.mark.parametrize(("messages", "learns"), [(0, False), (1, True)])
def test_a_contract_that_is_not_learned(messages, learns):
    """0 learns none."""
    watch = watched(learn_messages=messages)
    watch.examine({"a": 1}, 1)

    assert (watch.source == "learned", watch.learned) == (learns, messages)


@below_at_above("contracts.contracts.MAX_DESTINATIONS", 200, True, False, False)
def test_destinations_with_a_contract(size, outcome):
    """A hundred on both sides; those that are known stay."""
    contracts = Contracts(Totals(), Defaults())
    for at in range(size):
        contracts.of(f"orders-{at // 2}", ("consumer", "producer")[at % 2])

    assert (contracts.of("new", "consumer") is not None) is outcome
    assert contracts.of("orders-0", "consumer") is not None


# --- of the sampler ---


def taken(sampler, messages, *, size_bytes=100):
    """Which of so many messages of one size are taken."""
    found = []
    for at in range(messages):
        sampler.left -= 1
        if sampler.left <= 0 or not sampler.low <= size_bytes <= sampler.high:
            found.append(at)
            sampler.take(size_bytes)
    return found


def sparse(clock, *, every=1_024):
    """A sampler that has learned that looking is dear."""
    sampler = Sampler(clock)
    sampler._every, sampler._taken = every, 1_000
    return sampler


@below_at_above("contracts.sampling.FIRST", 100, 99, 100, 100)
def test_the_first_messages(size, outcome):
    """A hundred are always taken."""
    sampler = Sampler(Clock())
    sampler._every = 10**9

    assert len(taken(sampler, size)) == outcome


@below_at_above("contracts.sampling.AFTER_DIFFERENCE", 200, 199, 200, 201)
def test_messages_after_a_difference(size, outcome):
    """The next two hundred are taken."""
    sampler = sparse(Clock(), every=10**9)
    sampler.left = 10**9
    sampler.differed(new=True)

    assert len(taken(sampler, size)) == outcome


@below_at_above("contracts.sampling.SHARE", 100, False, True, True)
def test_a_difference_that_stays(size, outcome):
    """It is followed up again when what the last time cost is 1 % of the time since."""
    clock = Clock()
    sampler = sparse(clock)
    sampler.differed(new=True)
    for _ in range(201):
        sampler.left = 0
        sampler.take(1)
        sampler._burst_spent_ns = 1
    rested_until = sampler._rest_until_ns
    clock.now_ns = size
    sampler.left = 7
    sampler.differed(new=False)

    assert (rested_until, sampler.left == 1) == (100, outcome)


@pytest.mark.parametrize(
    ("watchful", "learning", "most"), [(False, False, 1_024), (True, False, 32), (False, True, 32)]
)
def test_the_fewest_that_are_taken(watchful, learning, most):
    """However dear: 1 of 1,024, where a break must not pass, and while a contract is learned, 1 of 32."""
    sampler = Sampler(Clock(1))
    sampler.watchful, sampler.learning = watchful, learning
    for _ in range(200):
        sampler.left = 0
        sampler.take(1)
        sampler.spent(1_000_000)

    assert sampler.every == most


@below_at_above("contracts.sampling.CHEAP_NS", 500_000, 1, 32, 32)
def test_learning_that_is_cheap(size, outcome):
    """Below half a millisecond each is learned from."""
    sampler = Sampler(Clock(1))
    sampler.learning = True
    for _ in range(64):
        sampler.left = 0
        sampler.take(1)
        sampler.spent(size)

    assert sampler.every == outcome


@below_at_above("contracts.sampling._ADAPT_AFTER", 64, 1, 1_024, 1_024)
def test_when_the_cost_is_known(size, outcome):
    """After 64 messages."""
    sampler = Sampler(Clock(1))
    for _ in range(size):
        sampler.left = 0
        sampler.take(1)
        sampler.spent(1_000_000)

    assert sampler.every == outcome


@below_at_above("contracts.sampling._SIZES_AFTER", 128, (-1, 2**63 - 1), (50, 200), (50, 200))
def test_when_sizes_are_known(size, outcome):
    """After 128 messages: half and twice what is usual is taken, whatever its turn."""
    sampler = Sampler(Clock())
    for _ in range(size):
        sampler.left = 0
        sampler.take(100)

    assert (sampler.low, sampler.high) == outcome


@below_at_above("contracts.sampling._SIZES", 512, 511, 512, 512)
def test_sizes_that_are_kept(size, outcome):
    """The last 512."""
    sampler = Sampler(Clock())
    for _ in range(size):
        sampler.left = 0
        sampler.take(1)

    assert len(sampler._sizes) == outcome


def test_sizes_that_are_usual():
    """From half of the 1st to twice the 99th percentile."""
    sampler = Sampler(Clock())
    for size_bytes in [*range(1, 101), *[100] * 28]:
        sampler.left = 0
        sampler.take(size_bytes)

    assert (sampler.low, sampler.high) == (1, 200)


@below_at_above("messages of another size", 64, 0, 0, 1)
def test_when_another_size_becomes_usual(size, outcome):
    """After 64 that were taken for their size alone."""
    sampler = Sampler(Clock())
    for _ in range(size):
        sampler.left = 5
        sampler.take(100)

    assert len(sampler._sizes) == outcome


def test_json_of_a_learned_contract_is_read_again():
    """Number by number the same."""
    contract = learned([{"a": [1, "x"], "b": None}] * 300)

    assert Contract.loads(json.dumps(contract.to_json())).fields == contract.fields


def test_paths_that_are_free_after_folding():
    """Keys that became `*` make room; a field without fields of its own needs no reserve."""
    named = {f"f{at}": 1 for at in range(100)}
    folded = [{**named, "data": {f"k{value}-{at}": 1 for at in range(60)}} for value in range(3)]
    learner = ContractLearner("orders")
    for value in folded:
        learner.learn(value)

    assert learner._paths == len(["$", "$'s reserve", "data", "data.*", *named])


def test_what_lies_below_keys_that_became_one():
    """Fields and items of all of them are known of any."""
    values = [{"data": {f"k{value}-{at}": {"a": [1]} for at in range(3)}} for value in range(20)]

    assert {path: field.types for path, field in learned(values).fields.items()} == {
        "$": ("object",),
        "data": ("object",),
        "data.*": ("object",),
        "data.*.a": ("array",),
        "data.*.a[]": ("int",),
    }


def test_whole_numbers_among_others():
    """Both sides have the same hash, whether one has met them or not."""
    mixed, plain, text = (
        learned([{"a": value} for value in values] * 500) for values in ((1, 1.5), (1.5, 2.5), ("x", 1))
    )

    assert (mixed.hash == plain.hash, text.hash == plain.hash) == (True, False)


@pytest.mark.parametrize(("drawn", "left"), [(0.0, 1), (0.5, 10), (0.999, 19)])
def test_which_message_is_next(drawn, left):
    """At random, of ten on average one."""
    sampler = sparse(Clock(), every=10)
    sampler._random = SimpleNamespace(random=lambda: drawn)
    sampler.left = 0
    sampler.take(1)

    assert sampler.left == left


def test_a_contract_file_that_is_none():
    """It is said, and the contract is learned."""
    problems = []

    def load(_destination):
        raise ContractError("not JSON")

    contracts = Contracts(Totals(), Defaults(), load=load, problem=lambda *said: problems.append(said))
    watch = contracts.of("orders", "consumer")

    assert (problems, watch.source, watch.learn_messages > 0) == ([("contract.orders", "not JSON")], None, True)


def test_destinations_that_are_sent_to():
    """Those whose values are watched on that side."""
    contracts = Contracts(Totals(), Defaults())
    contracts.of("sent", "producer")
    contracts.of("read", "consumer")

    assert contracts.sent_to() == ["sent"]


@below_at_above("contracts.files.MAX_BYTES", 4_000_000, True, True, False)
def test_the_bytes_of_a_file(tmp_path, size, outcome):
    """What is larger is nobody's contract."""
    text = Contract("orders", ROOT).dumps()
    (tmp_path / "orders.json").write_text(text + " " * (size - len(text)))
    if outcome:
        assert contract_in(tmp_path, "orders").fields == ROOT
    else:
        with pytest.raises(ContractError, match=r"orders\.json is no contract: it is larger than 4000000 bytes"):
            contract_in(tmp_path, "orders")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_no_contract(tmp_path):
    """And is not waited for."""
    os.mkfifo(tmp_path / "orders.json")
    with pytest.raises(ContractError, match="cannot be read: it is no plain file"):
        contract_in(tmp_path, "orders")
