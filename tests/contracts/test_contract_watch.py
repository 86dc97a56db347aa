"""One side of a destination: breaks are found, streams without one raise nothing, and the cost is bounded."""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import uuid
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.contracts.paths import ContractError
from otel_pipeline.contracts.sampling import MOST_EVERY, WATCHFUL_EVERY
from otel_pipeline.contracts.schema_ids import framed
from otel_pipeline.contracts.watch import ContractWatch

SIZE = 100


class Clock:
    """Time as the watch sees it: it asks before and after a check, and each time some has gone by."""

    def __init__(self, cost_ns=1_000):
        self.now_ns = 0
        self.cost_ns = cost_ns

    def __call__(self):
        self.now_ns += self.cost_ns
        return self.now_ns


class Dumping:
    def model_dump(self):
        raise ValueError

    def __str__(self):
        raise ValueError


def watch(side="consumer", **options):
    return ContractWatch("orders", side, **{"clock_ns": Clock(), **options})


def order(at=0):
    return {
        "id": at,
        "name": f"n{at}",
        "price": 9.5 + at,
        "customer": {"id": at, "city": "Bern"},
        "items": [{"sku": "a", "count": 1}],
    }


def feed(watched, values, size_bytes=SIZE):
    for value in values:
        watched.check(value, size_bytes)


def learned(values=None, **options):
    watched = watch(**options)
    feed(watched, values or [order(at) for at in range(1000)])
    assert watched.source == "learned"
    return watched


def file_contract():
    learner = ContractLearner("orders")
    for at in range(1000):
        learner.learn(order(at))
    return Contract.loads(learner.contract().dumps())


def test_before_it_is_learned_nothing_is_judged():
    """It says how far it is."""
    watched = watch()
    feed(watched, (order(at) for at in range(412)))

    assert (watched.source, watched.hash, watched.learned, watched.checked) == (None, None, 412, 0)


def test_after_that_it_is_frozen():
    """What comes later is not absorbed."""
    watched = learned()
    before = watched.hash
    feed(watched, ({"other": 1} for _ in range(5000)))

    assert (watched.hash, watched.learned) == (before, 1000)


def broken_value(kind, at):
    value = order(at)
    if kind == "field_missing":
        del value["customer"]["city"]
    elif kind == "type_changed":
        value["id"] = str(at)
    elif kind == "became_null":
        value["name"] = None
    elif kind == "field_added":
        value["coupon"] = "x"
    elif kind == "int_to_float":
        value["items"][0]["count"] = 1.5
    return value


KINDS = ("field_missing", "type_changed", "became_null", "field_added", "int_to_float")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["file", "learned"])
def test_every_break_is_found_within_100_messages(kind, source):
    """Also after a long quiet time at a high rate, when only one in many is looked at."""
    clock = Clock()
    watched = watch(contract=file_contract() if source == "file" else None, clock_ns=clock)
    for at in range(20_000):
        watched.check(order(at), SIZE)
        clock.now_ns += 20_000
    feed(watched, (broken_value(kind, at) for at in range(100)))

    assert set(watched.violations) == {kind}
    assert all(path.endswith(kind) for path in watched.differing_paths)


def test_a_file_is_known_at_message_one():
    """The first broken one is said."""
    watched = watch(contract=file_contract())
    watched.check(broken_value("type_changed", 1), SIZE)

    assert (watched.source, watched.checked, watched.violations) == ("file", 1, {"type_changed": 1})
    assert watched.differing_paths == ["id type_changed"]


def test_what_adds_breaks_nothing():
    """It is said."""
    watched = learned()
    feed(watched, [broken_value("field_added", 1), broken_value("int_to_float", 1)] * 20)

    assert set(watched.violations) == {"field_added", "int_to_float"}


def test_different_sides_learn_different_hashes():
    """A field that always comes on one side only."""
    one, other = learned(), learned({**order(at), "new": 1} for at in range(1000))

    assert one.hash != other.hash


def test_costs_at_most_one_percent():
    """Checks of 1 us, a message each 10 us: one in about 10."""
    clock = Clock()
    watched = watch(clock_ns=clock)
    for at in range(60_000):
        watched.check(order(at), SIZE)
        clock.now_ns += 10_000
        if at == 10_000:
            checked, began_ns = watched.checked, clock.now_ns
    share = (watched.checked - checked) * clock.cost_ns / (clock.now_ns - began_ns)

    assert 0.008 < share <= 0.0101


def test_a_slow_stream_is_checked_whole():
    """It costs nothing."""
    clock = Clock()
    watched = watch(clock_ns=clock)
    for at in range(3000):
        watched.check(order(at), SIZE)
        clock.now_ns += 10_000_000

    assert watched.checked == 2000


@pytest.mark.parametrize(("contract", "most"), [(file_contract(), WATCHFUL_EVERY), (None, MOST_EVERY)])
def test_however_dear_some_are_checked(contract, most):
    """With a contract file never fewer than one in 32."""
    clock = Clock(cost_ns=5_000_000)
    watched = watch(contract=contract, clock_ns=clock)
    feed(watched, (order(at) for at in range(200_000)))

    assert watched.sampler.every == most


def test_100_broken_in_a_row_are_noticed_with_a_file():
    """Whatever a check costs."""
    clock = Clock(cost_ns=5_000_000)
    for seed in range(20):
        watched = watch(contract=file_contract(), clock_ns=clock)
        watched.sampler._random.seed(seed)
        feed(watched, (order(at) for at in range(3000)))
        feed(watched, (broken_value("type_changed", at) for at in range(100)))

        assert watched.violations["type_changed"] >= 30


def test_a_difference_that_stays_does_not_cost_for_good():
    """It is followed up once in a while."""
    clock = Clock()
    watched = watch(clock_ns=clock)
    for at in range(60_000):
        watched.check({**order(at), **({"coupon": 1} if at > 1000 else {})}, SIZE)
        clock.now_ns += 5_000

    assert watched.checked < 6_000


def test_sizes_that_are_odd_are_always_checked():
    """A message that is much smaller or larger than the others."""
    clock = Clock()
    watched = watch(clock_ns=clock)
    for at in range(20_000):
        watched.check(order(at), SIZE + at % 50)
        clock.now_ns += 5_000
    watched.check(broken_value("field_added", 1), 10 * SIZE)
    watched.check(broken_value("field_missing", 1), SIZE // 10)

    assert watched.violations == {"field_added": 1, "field_missing": 1}


def test_sizes_may_change():
    """All messages are larger from now on: that is not odd for long."""
    clock = Clock()
    watched = watch(clock_ns=clock)
    for at in range(40_000):
        watched.check(order(at), SIZE if at < 20_000 else 10 * SIZE)
        clock.now_ns += 5_000

    assert watched.checked < 5_000


def test_json_in_bytes_is_read():
    """By a consumer without a deserializer; a producer's text is on its way to be bytes."""
    values = [json.dumps(order(at)) for at in range(1000)]
    consumer, producer = learned([value.encode() for value in values]), learned(values, side="producer")
    feed(consumer, [b'{"id": 1}', b"  " + json.dumps(order()).encode(), bytearray(json.dumps(order()).encode())])
    feed(producer, ['{"id": 1}', "  " + json.dumps(order())])

    assert (consumer.checked, consumer.violations) == (3, {"field_missing": 4})
    assert (producer.checked, producer.violations) == (2, {"field_missing": 4})
    assert consumer.hash == producer.hash


def test_text_from_a_deserializer_is_a_string():
    """Also where it looks like JSON, at times or always."""
    texts = ["plain", '{"id": 1}', "[info] started", "{", "7", ""]
    watched = learned([texts[at % len(texts)] for at in range(1000)])
    feed(watched, ["{}", "no", '{"id": "x"}'])

    assert (dict(watched.contract.fields), watched.violations) == ({"$": Field(("str",), True)}, {})


@pytest.mark.parametrize("other", ["plain", json.dumps(order()), b"\xff", 7, None, [order()], True])
@pytest.mark.parametrize("source", ["learned", "file"])
def test_another_type_of_the_whole_value(other, source):
    """JSON that was written twice is one, as is an error's text that a deserializer gives instead; no value is none."""
    watched = learned() if source == "learned" else watch(contract=file_contract())
    feed(watched, [order(), other, order()])

    assert watched.violations == ({} if other is None else {"type_changed": 1})
    assert watched.differing_paths == ([] if other is None else ["$ type_changed"])


@pytest.mark.parametrize("other", [b"7", b'"{}"', b"true"])
def test_json_that_is_no_object_any_more(other):
    """It can be read, and is something else."""
    watched = learned([json.dumps(order(at)).encode() for at in range(1000)])
    feed(watched, [other, b"null", b"", b"plain"])

    assert watched.violations == {"type_changed": 1, "became_null": 1, "unreadable": 2}


def test_json_of_a_file_that_was_only_decoded():
    """The file is of the message; the application parses it itself. What was written twice is longer."""
    watched = watch(contract=file_contract())
    text, twice = json.dumps(order()), json.dumps({**order(), "name": "é"}, ensure_ascii=False)
    watched.check(text, len(text))
    watched.check(twice, len(twice.encode()))
    watched.check('{"id": 1}', 9)

    assert (watched.checked, watched.violations) == (3, {"field_missing": 4})

    watched.check(text, len(json.dumps(text)))
    assert watched.differing_paths[-1] == "$ type_changed"


def test_objects_and_bytes_of_one_destination():
    """One consumer has a deserializer, another one has none: both read the same."""
    watched = learned([order(at) if at % 2 else json.dumps(order(at)).encode() for at in range(1000)])
    feed(watched, [order(), json.dumps(order()).encode(), b"plain"])

    assert watched.differing_paths == ["$ type_changed"]


class Counted(ContractWatch):
    """Counts the values that are looked at."""

    examined = 0

    def examine(self, *arguments):
        self.examined += 1
        super().examine(*arguments)


NO_JSON = {
    "raw bytes": b"x" * 100,
    "Avro with a registry's id": b"\0\0\0\0\7" + b"\2\4ab" * 20,
    "protobuf": bytes(range(8, 108)),
    "text": b"hello world " * 8,
    "cut JSON": b'{"a": ',
    "nothing at all": None,
    "what raises": Dumping(),
}


@pytest.mark.parametrize("case", NO_JSON)
def test_what_nothing_can_be_learned_from_is_not_looked_at_for_ever(case):
    """After a hundred looks in vain, one in 1,024, whatever its size, in case that there is JSON."""
    watched = Counted("orders", "consumer", clock_ns=Clock())
    feed(watched, [NO_JSON[case]] * 100)
    assert watched.examined == 100

    for at in range(100 * 1_024):
        watched.check(NO_JSON[case], SIZE * (1 + at % 9))
    assert 50 < watched.examined - 100 < 150
    assert (watched.evidence().in_vain, watched.source, watched.learned, watched.violations) == (True, None, 0, {})


def test_what_is_mixed_is_learned_all_the_same():
    """Half of the values are JSON: learning ends when a contract is known."""
    watched = Counted("orders", "consumer", clock_ns=Clock())
    feed(watched, [value for at in range(999) for value in (json.dumps(order(at)).encode(), b"x" * 100)])
    before = (watched.source, watched.learned)
    feed(watched, [json.dumps(order(999)).encode(), *([b"x" * 100, json.dumps(order()).encode()] * 10_000)])

    assert (before, watched.source) == ((None, 999), "learned")
    assert watched.examined < 5_000


def test_what_should_be_json_and_is_not():
    """Is unreadable, and not absorbed while learning either."""
    watched = watch()
    values = [json.dumps(order(at)).encode() for at in range(150)]
    feed(watched, [*values, b"\x80\x04", b'{"id": ', b"", *values])

    assert (watched.violations, watched.learned) == ({"unreadable": 3}, 300)


def test_streams_of_other_bytes_are_left_alone():
    """Also when some of them look like JSON."""
    watched = watch()
    feed(watched, [b"[info] started", b"plain", b'{"a": 1}', os.urandom(20)] * 2000)

    assert watched.violations == {}


def test_who_rests_wakes_when_there_is_something_to_learn():
    """The next message is looked at, and all that follow until the contract is known."""
    watched = watch()
    feed(watched, [b"plain"] * 100)
    feed(watched, [order(at) for at in range(2_048)])
    woken = watched.learned
    feed(watched, [order(at) for at in range(1_000)])

    assert (woken > 0, watched.source, watched.evidence().in_vain) == (True, "learned", False)


def test_99_looks_in_vain_are_not_enough():
    """Deletions may come first."""
    watched = watch()
    feed(watched, [None] * 99)
    feed(watched, [order(at) for at in range(10)])
    feed(watched, [None] * 99)
    feed(watched, [order(at) for at in range(10)])

    assert watched.learned == 20


def test_a_file_is_watched_whatever_comes():
    """A break must not pass: nothing rests."""
    watched = watch(contract=file_contract())
    feed(watched, [None] * 20_000)
    feed(watched, [broken_value("type_changed", 1)] * 64)

    assert watched.violations["type_changed"] > 0


def test_a_file_expects_json():
    """From the first message."""
    watched = watch(contract=file_contract())
    feed(watched, [b"plain"])

    assert watched.violations == {"unreadable": 1}


def test_registry_ids():
    """By id, GUID, fingerprint; JSON behind them is read."""
    guid = uuid.UUID(int=5)
    watched = watch()
    feed(
        watched,
        [
            b"\0" + struct.pack(">I", 7) + b'{"a": 1}',
            b"\0" + struct.pack(">I", 7) + b"\x02\x03",
            b"\1" + guid.bytes + b"\x02",
            b"\xc3\x01" + bytes(range(8)) + b"\x02",
        ],
    )

    assert dict(watched.schema_ids) == {"id 7": 2, f"guid {guid}": 1, "avro 0001020304050607": 1}
    assert watched.learned == 1


def test_registry_ids_are_bounded():
    """16 and the rest."""
    watched = watch()
    feed(watched, (b"\0" + struct.pack(">I", at) for at in range(50)))

    assert (len(watched.schema_ids), watched.schema_ids["other"]) == (17, 34)


def test_a_deserializer_that_raised():
    """Is a break at once."""
    watched = learned()
    watched.unreadable()

    assert (watched.violations, watched.checked) == ({"unreadable": 1}, 1)


def test_deletions_are_no_values():
    """None is neither learned nor judged."""
    watched = watch(contract=file_contract())
    feed(watched, [None] * 10)

    assert (watched.checked, watched.violations) == (0, {})


def test_differing_paths_are_bounded():
    """The first 20."""
    watched = learned()
    feed(watched, ({**order(), f"new{at}": 1} for at in range(60)))

    assert len(watched.differing_paths) == 20
    assert watched.differing_paths[0] == "new0 field_added"


def test_fields_on_request():
    """Null rate and range of those named, of no others."""
    watched = watch(fields_on_request={"price", "items[].count", "customer.city"})
    feed(watched, (order(at) for at in range(50)))
    feed(watched, [{"price": None, "customer": {"city": None}}] * 50)

    health = watched.field_health
    assert (health["price"].minimum, health["price"].maximum, health["price"].null_rate) == (9.5, 58.5, 0.5)
    assert (health["items[].count"].values, health["items[].count"].maximum) == (50, 1.0)
    assert (health["customer.city"].null_rate, health["customer.city"].minimum) == (0.5, None)


@pytest.mark.parametrize("paths", [{"a..b"}, {f"f{at}" for at in range(33)}])
def test_fields_that_cannot_be_asked_for(paths):
    """Said when it is made."""
    with pytest.raises(ContractError):
        watch(fields_on_request=paths)


def test_evidence():
    """As the verdict reads it."""
    watched = learned()
    feed(watched, [broken_value("field_missing", 1)])
    evidence = watched.evidence()

    assert (evidence.source, evidence.learned, evidence.learn_messages) == ("learned", 1000, 1000)
    assert {str(label) or label.measure.name: count for label, count in watched.counts().items() if count} == {
        "consumer": 1,
        "consumer field_missing learned": 1,
        "passed": 1,
    }
    assert [str(each) for each in evidence.departures] == ["customer.city field_missing"]


def test_zero_learns_nothing():
    """Neither does it judge."""
    watched = watch(learn_messages=0)
    feed(watched, (order(at) for at in range(1000)))

    assert (watched.learned, watched.source) == (0, None)


class Hostile(dict):
    def items(self):
        raise RuntimeError

    def __contains__(self, key):
        raise RuntimeError

    def __getitem__(self, key):
        raise RuntimeError

    def keys(self):
        raise RuntimeError

    def __len__(self):
        raise RuntimeError

    def __bool__(self):
        raise RuntimeError


class Key:
    def __str__(self):
        raise ValueError


hostile = [
    Hostile(a=1),
    Dumping(),
    Dumping,
    MagicMock(),
    {Key(): 1},
    object(),
    iter([]),
    range(10**9),
    float("nan"),
    {"a": Hostile()},
    "[" * 10**5,
    b"{" * 10**5,
    {"x" * 10**6: 1},
    sys,
    memoryview(b"{"),
    {"\ud800": 1},
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.sampled_from(hostile),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=10,
)


@settings(max_examples=100)
@given(st.lists(anything, max_size=20), st.sampled_from(["learn", "short", "file"]))
def test_never_raises(values, mode):
    """On any object, learning or judging, asked for fields or not."""
    contract = Contract("t", {"$": Field(("object",), True), "a": Field(("int",), True)}) if mode == "file" else None
    watched = watch(contract=contract, learn_messages=3 if mode == "short" else 1000, fields_on_request={"a", "*[]"})
    feed(watched, [*values, *hostile])

    assert len(watched.differing_paths) <= 20


def test_many_threads():
    """Each message is counted, or another one was being looked at."""
    watched = watch()
    value = order()

    def work():
        for _ in range(3000):
            watched.check(value, SIZE)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (watched.learned, watched.source, watched.violations, watched.failed) == (1000, "learned", {}, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_learns_on():
    """Though a thread of the parent was learning just then."""
    watched = watch()
    watched._judge.agreement._learning.acquire()
    child = os.fork()
    if child == 0:
        watched.check(order(), SIZE)
        os._exit(watched.learned)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_message_that_is_not_taken_makes_no_object():
    """It is counted down, and its size compared: two calls for three looks."""
    watched = learned()
    watched.sampler.left = 10_000
    calls = []
    sys.setprofile(lambda frame, event, _arg: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        for _ in range(3):
            watched.check(None, SIZE)
    finally:
        sys.setprofile(None)

    assert calls == ["check"] * 3


ID, GUID = b"\0" + struct.pack(">I", 7), b"\1" + uuid.UUID(int=5).bytes
HEADERS = {
    "a GUID": ([("a", b"1"), ("__value_schema_id", GUID)], GUID),
    "an id": ([("__value_schema_id", ID)], ID),
    "the first counts": ([("__value_schema_id", GUID), ("__value_schema_id", ID)], GUID),
    "a tuple of pairs": ((("__value_schema_id", GUID),), GUID),
    "that of the key": ([("__key_schema_id", GUID)], b""),
    "no id": ([("__value_schema_id", b"\2" + GUID[1:])], b""),
    "too short": ([("__value_schema_id", GUID[:-1])], b""),
    "too long": ([("__value_schema_id", GUID + b"\0")], b""),
    "nothing in it": ([("__value_schema_id", None)], b""),
    "text": ([("__value_schema_id", "1")], b""),
    "no pairs": (["__value_schema_id", None, 5, (), ("__value_schema_id",)], b""),
    "a number": (5, b""),
    "a dictionary": ({"__value_schema_id": GUID}, b""),
    "none": (None, b""),
}


@pytest.mark.parametrize(("headers", "before"), HEADERS.values(), ids=HEADERS)
def test_the_registry_s_id_in_a_header(headers, before):
    """It is read as if it stood before the value; anything else is no id, and what is no bytes stays as it is."""
    assert framed(b"{}", headers) == before + b"{}"
    assert [framed(value, headers) for value in ("{}", None, {}, bytearray(b"{}"))] == [
        "{}",
        None,
        {},
        bytearray(b"{}"),
    ]


def test_a_new_id_in_a_header_with_another_shape_is_told():
    """As one before the value; behind it the value is compared, whether it is sent or received."""
    found, sent = watch(learn_messages=2), watch("producer", learn_messages=2)
    fields = SimpleNamespace(value=lambda message: message[0], headers=lambda message: message[1])
    read = ContractWatch.reader(fields)
    for value, header in ((b'{"id": 1}', GUID), (b'{"id": 2}', GUID), (b'{"id": "3"}', ID)):
        headers = [("__value_schema_id", header)]
        found.check(read((value, headers)), SIZE)
        sent.check_sent(value, SIZE, headers)
    for each in (found, sent):
        assert dict(each.schema_ids) == {f"guid {uuid.UUID(int=5)}": 2, "id 7": 1}
        assert list(each.evidence().new_schemas) == ["id 7"]
        assert each.violations == {"type_changed": 1}
