"""Contract kept, row by row: each just below and just above, with the words that a person reads."""

from __future__ import annotations

import pytest

from otel_pipeline.contracts.evidence import ContractEvidence, Departure, Settled
from otel_pipeline.contracts.measures import CHECKED, DELETED, NOT_COMPARED, OF_NEW_KIND, PASSED, VIOLATIONS
from otel_pipeline.detectors.flow_pace import Pace
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict import words
from otel_pipeline.verdict.evidence import Evidence, Freshness
from otel_pipeline.verdict.verdict import Verdict

WALL_S = 1_700_000_000.0
LEARN = "destinations: {orders: {contract: learn}}"
RELEASE = "the producer's last release"
READY = "whether consumers are ready (otel-pipeline contract diff)"
DAY_S = 86_400.0


def checked(count):
    return {CHECKED.label("consumer"): count}


def differed(kind, count, source="learned"):
    return {VIOLATIONS.label("consumer", kind, source): count}


def looked(compared, *, passed=0, not_compared=0, deleted=0):
    return {**checked(compared), PASSED: passed, NOT_COMPARED: not_compared, DELETED: deleted}


def clock(ago_s=0.0):
    return words.clock(WALL_S - ago_s)


class Flow:
    """One flow over time."""

    def __init__(self):
        self.verdict = Verdict(HealthSettings(environment="test"))
        self.now_s = 100_000.0

    def once(self, counts=None, known=None, *, quiet_s=0.1, grown=0):
        """The light as it is shown now."""
        found = Evidence(
            FlowKey("k1", "orders", "g"),
            Sums(counts or {}),
            contract=known or ContractEvidence("learned"),
            freshness=Freshness(quiet_s=quiet_s),
            pace=Pace(grown=grown),
        )
        (flow,) = self.verdict.judge([found], self.now_s, WALL_S)
        return flow.lights["contract"]

    def light(self, counts=None, known=None, *, after_s=0.0, **more):
        """The light `after_s` later than the last one, once its colour has settled."""
        self.now_s += after_s
        for _ in range(2):
            self.once(counts, known, **more)
            self.now_s += 31.0
        return self.once(counts, known, **more)


def light(counts=None, known=None, **more):
    return Flow().light(counts, known, **more)


def said(found):
    return found.row, found.state, found.why


@pytest.mark.parametrize("kind", ["field_missing", "type_changed", "became_null", "unreadable"])
@pytest.mark.parametrize(("source", "state"), [("file", "red"), ("learned", "amber")])
def test_broken(kind, source, state):
    """By one value; red only what a person declared."""
    known = ContractEvidence(source)

    assert said(light({**checked(5000), **differed(kind, 1, source)}, known)) == ("broken", state, f"1 x {kind}")
    assert said(light({**checked(5000), **differed(kind, 0, source)}, known)) == (
        "kept",
        "green",
        f"5,000 values checked against the contract ({source})",
    )


@pytest.mark.parametrize("kind", ["field_added", "int_to_float"])
@pytest.mark.parametrize("source", ["file", "learned"])
def test_what_breaks_no_reader(kind, source):
    """Is amber."""
    found = light({**checked(5000), **differed(kind, 1, source)}, ContractEvidence(source))

    assert (said(found), found.look) == (("differs", "amber", f"1 x {kind}"), READY)


@pytest.mark.parametrize(
    ("source", "states"),
    [
        ("learned", [("amber", 0, 10), ("green", 330, 350)]),
        ("file", [("red", 0, 10), ("amber", 330, 350), ("green", 3_930, 3_950)]),
    ],
)
def test_how_long_a_break_is_shown(source, states):
    """Five minutes; of a file red for five minutes and then amber for an hour. Half a minute later it is better."""
    flow, shown = Flow(), []
    flow.light({**checked(4000), **differed("type_changed", 0, source)}, ContractEvidence(source))
    began_s = flow.now_s
    while flow.now_s < began_s + 4_000.0:
        counts = {**checked(5000), **differed("type_changed", 2, source)}
        state = flow.once(counts, ContractEvidence(source)).state
        if not shown or shown[-1][0] != state:
            shown.append((state, flow.now_s - began_s))
        flow.now_s += 5.0

    changed = [each for each in shown if each[0] != "green" or each is shown[-1]]
    assert [state for state, _ in changed] == [state for state, _, _ in states]
    assert all(least <= at_s <= most for (_, at_s), (_, least, most) in zip(changed, states, strict=True))


def test_unreadable_values_are_amber_before_a_contract_is_learned():
    """All of them may be."""
    known = ContractEvidence(learned=412, departures=[Departure("$", "unreadable", 3, 3, 5.0, types=("raised",))])
    found = light(differed("unreadable", 3), known)

    assert said(found) == ("broken", "amber", f"the (de)serializer raised in 3 messages since {clock(5)}")


@pytest.mark.parametrize(
    ("departure", "why"),
    [
        (
            Departure("coupon", "field_missing", 3, 2_400, 600.0, 1.0),
            f"coupon: missing in 3 of 2,400 (0.125 %) since {clock(600)}",
        ),
        (
            Departure("coupon", "field_missing", 3, 2_400, 600.0, 60.0),
            f"coupon: missing in 3 of 2,400 (0.125 %) since {clock(600)}",
        ),
        (
            Departure("coupon", "field_missing", 3, 2_400, 600.0, 61.0),
            f"coupon: missing in 3 of 2,400 (0.125 %) from {clock(600)} to {clock(61)}",
        ),
        (Departure("id", "became_null", 60, 60, 5.0), f"id: null in all 60 since {clock(5)}"),
        (Departure("id", "became_null", 1, 1, 5.0), f"id: null in 1 of 1 since {clock(5)}"),
        (
            Departure("$", "type_changed", 1, 2, 5.0, types=("array", "str")),
            f"the whole value: of another type (array, str) in 1 of 2 (50 %) since {clock(5)}",
        ),
        (
            Departure("id", "field_missing", 30, 1_000, 5.0, producer=4711, producers=8),
            f"id: missing in 30 of 1,000 (3 %) since {clock(5)}, all from producer 4711, one of 8",
        ),
        (
            Departure("id", "field_missing", 30, 1_000, 5.0, producer=4711, producers=2),
            f"id: missing in 30 of 1,000 (3 %) since {clock(5)}, all from producer 4711, one of 2",
        ),
        (
            Departure("id", "field_missing", 30, 1_000, 5.0, producer=4711, producers=1),
            f"id: missing in 30 of 1,000 (3 %) since {clock(5)}",
        ),
        (
            Departure("$", "unreadable", 1, 4, 5.0, types=("raised",)),
            f"the (de)serializer raised in 1 of 4 (25 %) since {clock(5)}",
        ),
        (
            Departure("$", "unreadable", 1, 4, 5.0, types=("bytes", "raised")),
            f"no JSON or the (de)serializer raised in 1 of 4 (25 %) since {clock(5)}",
        ),
    ],
)
def test_what_is_said_of_a_break(departure, why):
    """Where, what, how many of how many, since when; and who, where it is one of several."""
    found = light({**checked(5000), **differed(departure.kind, 3)}, ContractEvidence("learned", departures=[departure]))

    assert (found.why, found.look) == (why, RELEASE)


def test_what_is_long_gone_is_not_said():
    """Of a learned contract what came within five minutes, the newest first, five at most."""
    old, new = Departure("old", "field_missing", last_s=300.5), Departure("new", "field_missing", last_s=299.5)
    other = Departure("other", "field_added", last_s=1.0)
    counts = {**checked(5000), **differed("field_missing", 2)}

    assert light(counts, ContractEvidence("learned", departures=[old, other, new])).why.startswith("new: missing")
    assert "old" not in light(counts, ContractEvidence("learned", departures=[old, other, new])).why
    assert light(counts, ContractEvidence("learned", departures=[old, other])).why == "2 x field_missing"

    many = [Departure(f"f{at}", "field_missing", last_s=float(at)) for at in reversed(range(7))]
    assert [
        part.split(":")[0] for part in light(counts, ContractEvidence("learned", departures=many)).why.split("; ")
    ] == [f"f{at}" for at in range(5)]


def test_a_break_of_a_file_is_said_for_as_long_as_it_is_shown():
    """With its time."""
    departures = [Departure("amount", "type_changed", 2, 9, 3_000.0, 2_900.0, types=("str",))]
    flow, counts = Flow(), {**checked(5000), **differed("type_changed", 2, "file")}
    flow.light(counts, ContractEvidence("file", departures=departures))
    found = flow.light(counts, ContractEvidence("file", departures=departures), after_s=600.0)

    assert said(found) == (
        "broken",
        "amber",
        f"amount: of another type (str) in 2 of 9 (22.2 %) from {clock(3000)} to {clock(2900)}",
    )


@pytest.mark.parametrize(
    ("ago_s", "row", "why"),
    [
        (3_599.0, "new schema", f"new schema id 8 since {clock(3599)}"),
        (3_600.0, "kept", "50 values checked against the contract (learned)"),
    ],
)
def test_a_new_schema(ago_s, row, why):
    """Is said for an hour."""
    found = light(checked(50), ContractEvidence("learned", new_schemas={"id 8": ago_s}))

    assert (found.row, found.why) == (row, why)
    assert (found.state == "amber") is (row == "new schema")


def test_new_schemas_without_a_known_shape():
    """Of bytes that nobody reads the ids are all that is known."""
    found = light(None, ContractEvidence(in_vain=True, new_schemas={"id 8": 5.0, "id 9": 2.0}, schemas=["id 7"]))

    assert said(found) == ("new schema", "amber", f"new schema id 8, id 9 since {clock(5)}")


def test_sides_that_differ():
    """Amber, after what is a break."""
    known = ContractEvidence("file", sides_differ=True)

    assert said(light(checked(50), known)) == (
        "sides differ",
        "amber",
        "this process sends another shape than it receives",
    )
    assert light({**checked(50), **differed("type_changed", 1, "file")}, known).row == "broken"


@pytest.mark.parametrize(
    ("known", "row", "why"),
    [
        (ContractEvidence(wanted=False), "not set up", "not set up: the values of this destination are not looked at"),
        (ContractEvidence(), "learning", "not seen: no value yet"),
        (ContractEvidence(learned=1), "learning", "too few yet: 1 of 1,000 messages learned"),
        (ContractEvidence(learned=999), "learning", "too few yet: 999 of 1,000 messages learned"),
        (ContractEvidence("learned", learned=1_000), "kept", "1 value checked against the contract (learned)"),
        (ContractEvidence(in_vain=True), "no shape", "not seen: values are no objects and no JSON"),
        (
            ContractEvidence(in_vain=True, schemas=["id 7", "id 8"]),
            "no shape",
            "not seen: values are no objects and no JSON; they begin with schema id 7, id 8",
        ),
    ],
)
def test_what_is_not_known(known, row, why):
    """Is grey, in words that say how it is not known."""
    found = light(checked(1) if known.source else None, known)

    assert said(found) == (row, "green" if row == "kept" else "grey", why)


def test_none_checked():
    """Within a day."""
    flow = Flow()
    flow.light(checked(0))
    flow.light(checked(1), after_s=1_800.0)

    assert flow.light(checked(1), after_s=DAY_S - 200.0).row == "kept"
    assert said(flow.light(checked(1), after_s=200.0)) == (
        "none checked",
        "grey",
        "not seen: no value was checked within a day",
    )


@pytest.mark.parametrize(("quiet_s", "row"), [(59.0, "kept"), (60.0, "kept"), (61.0, "nothing judged")])
def test_old_evidence(quiet_s, row):
    """None where the log has grown since."""
    assert light(checked(50), quiet_s=quiet_s, grown=3).row == row


@pytest.mark.parametrize(
    ("not_compared", "row", "why"),
    [
        (11, "kept", "100 values checked against the contract (learned)"),
        (12, "partly judged", "only 100 of 112 values can be judged: the others are no JSON"),
    ],
)
def test_what_cannot_be_judged(not_compared, row, why):
    """Under 90 % judged is no green."""
    found = light(looked(100, passed=100 + not_compared, not_compared=not_compared))

    assert (found.row, found.why, found.judged, found.seen) == (row, why, 100, 100 + not_compared)


@pytest.mark.parametrize(
    ("of_new_kind", "row", "why"),
    [
        (11, "kept", "100 values checked against the contract (learned)"),
        (
            12,
            "partly judged",
            "only 100 of 112 values can be judged: the others are of new kinds, by op, which are still being learned",
        ),
    ],
)
def test_new_kinds(of_new_kind, row, why):
    """They are not judged, and no break."""
    counts = {**looked(100, passed=100 + of_new_kind), OF_NEW_KIND: of_new_kind}
    found = light(counts, ContractEvidence("learned", kinds_by="op", new_kinds=1))

    assert (found.row, found.why, found.judged, found.seen) == (row, why, 100, 100 + of_new_kind)


@pytest.mark.parametrize(("known_s", "row"), [(3_599.0, "stopped"), (3_600.0, "kept")])
def test_what_stopped_while_it_was_learned(known_s, row):
    """Is said for an hour: it is no part of what is agreed on."""
    fields = [f"f{at}" for at in range(6)]
    found = light(checked(50), ContractEvidence("learned", stopped=fields, known_s=known_s))

    assert found.row == row
    if row == "stopped":
        why = "f0, f1, f2, f3, f4: in all of the first 500 messages learned and in none of the rest"
        assert (found.state, found.why, found.look) == ("amber", why, RELEASE)


@pytest.mark.parametrize(
    ("counts", "why", "judged"),
    [
        (
            looked(1_000, passed=100_000),
            "1,000 of 100,000 looked at: under 0.3 % break it (learned contract)",
            (100_000, 100_000),
        ),
        (looked(1_000, passed=1_010), "1,000 values checked against the contract (learned)", (1_000, 1_000)),
        (
            looked(1_000, passed=1_011),
            "1,000 of 1,011 looked at: under 0.3 % break it (learned contract)",
            (1_011, 1_011),
        ),
        (
            looked(1_000, passed=2_000, deleted=1_000),
            "1,000 values checked against the contract (learned)",
            (1_000, 1_000),
        ),
        (
            looked(1_000, passed=100_000, not_compared=100),
            "1,000 of 100,000 looked at: under 0.3 % break it (learned contract)",
            (90_909, 100_000),
        ),
    ],
)
def test_a_sample(counts, why, judged):
    """It judges all of what it is drawn from, and says its bound; deletions have no value."""
    found = light(counts)

    assert said(found) == ("kept", "green", why)
    assert (found.judged, found.seen) == judged


def test_a_sample_with_a_break_says_no_bound():
    """What is long over is no alarm, and not none."""
    flow = Flow()
    flow.light({**looked(200, passed=20_000), **differed("became_null", 1)})
    found = flow.light({**looked(250, passed=25_000), **differed("became_null", 1)}, after_s=400.0)

    assert said(found) == ("kept", "green", "250 of 25,000 looked at (learned contract)")


@pytest.mark.parametrize(("count", "window_s"), [(299, 86_400.0), (300, 300.0)])
def test_the_window(count, window_s):
    """The shortest with 300 values, which bound the share by 1 %; else a day."""
    flow = Flow()
    flow.light(checked(0))
    flow.light(checked(5_000))
    found = flow.light(checked(5_000 + count), after_s=4_000.0)

    assert found.window_s == window_s


@pytest.mark.parametrize(("ago_s", "words_"), [(3_599.0, True), (3_600.0, False)])
def test_what_became_optional_is_said_for_an_hour(ago_s, words_):
    """Beside green."""
    settled = [Settled("coupon", "field_missing", 0.001, ago_s)]
    found = light(checked(50), ContractEvidence("learned", settled=settled))

    assert found.why == "50 values checked against the contract (learned)" + (
        "; coupon: absent in 0.1 %, optional after all" if words_ else ""
    )
