"""The seam of detectors: what a table gives, how third parties come in, and that nothing they do harms anybody else."""

from __future__ import annotations

import gc
import re
import sys
from importlib.metadata import EntryPoint
from operator import itemgetter
from pathlib import Path
from weakref import ref

import pytest

from otel_pipeline.detectors.measures import (
    ENTRY_POINTS,
    MAX_VALUES,
    Detector,
    Row,
    Rule,
    detectors,
    own_detectors,
)
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.guard import OFF_AFTER, Guard
from otel_pipeline.engine.measures import FLOW, Attribute, Measure, Sums
from otel_pipeline.engine.messages import MessageFields

FIELDS = MessageFields(*map(itemgetter, range(8)))
FLAVOUR = Attribute("tea.flavour", "How it tastes.")
CUPS = Measure("tea.cups", "counter", "{cup}", "Cups of tea.", (*FLOW, FLAVOUR))
GREEN, BLACK = CUPS.label("green"), CUPS.label("black")
LEAVES = Measure("tea.leaves", "gauge", "{leaf}", "Leaves.", FLOW)


class Pot:
    """A part that counts all that it is told of."""

    def __init__(self):
        self.told = []

    def delivered(self, messages, now_ms):
        self.told += [("delivered", len(messages))]

    def processed(self, offset, now_ms):
        self.told += [("processed", offset)]

    def processed_to(self, offset, now_ms):
        self.told += [("processed_to", offset)]

    def began(self, offset, message):
        self.told += [("began", offset)]

    def ended(self, offset):
        self.told += [("ended", offset)]

    def look(self, value):
        self.told += [("look", value)]

    @property
    def cups(self):
        return sum(what == "delivered" for what, _ in self.told)


def tea(**more):
    """The table of a third party."""
    given = {
        "watch": lambda at: Pot(),
        "counts": {GREEN: lambda pot: pot.cups, BLACK: lambda _: 0},
        "flow_gauges": {LEAVES: lambda now: [({}, 7.0)]},
        "rules": (Rule("pace", lambda windows: Row("amber", f"{windows[300.0][GREEN]} cups", "the pot")),),
    }
    return Detector("tea", **{**given, **more})


def test_a_part_is_told_of_what_it_has_a_method_for(watching):
    """One by one, in a pull, by `process()`, and of the values that are sampled."""
    pot = Pot()
    found = watching(tables=(*own_detectors(), tea(watch=lambda at: pot)))
    observer = found.deliver(found.message(0, value={"a": 1}))
    observer.batch([found.message(1), found.message(2)], [None, found.header(1)], found.now_ms)
    observer.processed_batch(2, [0, 0], found.now_ms)
    message = found.message(3)
    observer.began(3, message)
    observer.processed(3, 0, found.now_ms)

    assert pot.told == [
        ("look", {"a": 1}),
        ("delivered", 1),
        ("processed", 0),
        ("delivered", 2),
        ("processed_to", 2),
        ("began", 3),
        ("ended", 3),
        ("processed", 3),
    ]


def test_a_table_gives_series_evidence_history_and_a_row_of_a_light(watching):
    """With the attributes of the flow that its measure asks for, from 0 on, before the first message."""
    found = watching(tables=(*own_detectors(), tea()))
    found.consumer.fetch_observer("orders", 0)
    flow = {"messaging.destination.name": "orders", "messaging.consumer.group.name": "g"}
    born = found.points("tea.cups")
    found.deliver(found.message(0), found.message(1))

    assert born == [({**flow, "tea.flavour": "green"}, 0), ({**flow, "tea.flavour": "black"}, 0)]
    assert found.points("tea.cups") == [({**flow, "tea.flavour": "green"}, 2), ({**flow, "tea.flavour": "black"}, 0)]
    assert found.points("tea.leaves") == [(flow, 7.0)]
    assert found.evidence().counts[GREEN] == 2
    pace = found.lights()["pace"]
    assert (pace.state, pace.why, pace.look) == ("amber", "2 cups", "the pot")


def test_a_light_that_is_worse_itself_says_so(watching):
    """A rule is a row below its own."""
    found = watching(tables=(*own_detectors(), tea(rules=(Rule("order", lambda _: Row("amber", "tea")),))))
    found.deliver(*found.numbered(1, 2, 3, 5))

    assert found.lights()["order"].row == "gap"


TOLD = ("delivered", "processed", "processed_to", "began", "ended", "look")
TABLE = {
    "counts": lambda broken: {"counts": {GREEN: broken}},
    "open counts": lambda broken: {"open_counts": {CUPS: broken}, "counts": {}},
    "a gauge of a flow": lambda broken: {"flow_gauges": {LEAVES: broken}},
    "a gauge of the engine": lambda broken: {"flow_gauges": {}, "gauges": {LEAVES: broken}},
    "a rule": lambda broken: {"rules": (Rule("pace", broken),)},
}


@pytest.mark.parametrize("where", ["watch", *TOLD, *TABLE])
def test_a_detector_that_raises_harms_nobody_and_is_switched_off(watching, where):
    """Counted each time; then it is neither told nor asked any more, and the others count on."""
    tried = []

    def broken(*_arguments):
        tried.append(where)
        raise ValueError(where)

    def watch(_at):
        if where == "watch":
            broken()
        pot = Pot()
        if where in TOLD:
            setattr(pot, where, broken)
        return pot

    more = TABLE[where](broken) if where in TABLE else {}
    found = watching(tables=(*own_detectors(), tea(watch=watch, **more)))
    for turn in range(OFF_AFTER + 20):
        observer = found.deliver(found.message(turn, value={"a": 1}), consumer=found.begin())
        observer.began(turn, found.message(turn))
        observer.processed(turn, 0, found.now_ms)
        observer.processed_batch(turn, [0], found.now_ms)
        found.lights()
        found.points("tea.leaves")

    assert found.guard.errors == {"detector.tea": len(tried)}
    assert OFF_AFTER <= len(tried) <= OFF_AFTER + 2
    assert (
        "detector.tea failed 100 times within a minute and is switched off" in found.guard.problems["off.detector.tea"]
    )
    assert found.evidence().messages == OFF_AFTER + 20


def test_sums_do_not_fall_when_they_can_no_longer_be_read(watching):
    """What was counted stays what it was."""
    broken = []

    def cups(pot):
        if broken:
            raise ValueError
        return pot.cups

    found = watching(tables=(*own_detectors(), tea(counts={GREEN: cups})))
    found.deliver(found.message(0), found.message(1))
    before = found.points("tea.cups")
    broken.append(True)
    found.deliver(found.message(2))

    assert [count for _, count in found.points("tea.cups")] == [count for _, count in before] == [2]
    assert (found.evidence().counts[GREEN], found.evidence().messages) == (2, 3)


@pytest.mark.parametrize("case", ["what is born", "an instrument"])
def test_a_table_that_cannot_be_defined_harms_nobody(watching, case):
    """Its flow is watched without it."""
    twice = Measure("tea.leaves", "counter", "{leaf}", "Leaves.", FLOW).label()
    more = {"what is born": {"born": lambda *_: 1 / 0}, "an instrument": {"counts": {twice: len}}}
    found = watching(tables=(*own_detectors(), tea(**more[case])))
    found.deliver(found.message(0), found.message(1))

    assert found.guard.errors == {"detector.tea": 1}
    assert found.evidence().messages == 2


def test_values_that_nobody_bounds_are_bounded(watching):
    """The first stay."""
    cups = {(str(number),): number for number in range(1000)}
    found = watching(tables=(*own_detectors(), tea(counts={}, open_counts={CUPS: lambda _: cups})))
    found.deliver(found.message(0))

    assert [count for _, count in found.points("tea.cups")] == list(range(MAX_VALUES))


def test_what_a_detector_is_given_does_not_keep_the_consumer(watching):
    """Though it keeps all of it."""
    kept = []
    found = watching(tables=(*own_detectors(), tea(watch=kept.append)))
    consumer = found.begin()
    found.deliver(found.message(0), consumer=consumer)
    gone = ref(consumer)
    del consumer
    gc.collect()

    assert (len(kept), gone()) == (1, None)


UNUSABLE = {
    "no table": (dict, "otel_pipeline_observer has to name a Detector"),
    "two of one name": (
        Detector("tea", recorded=(Measure("tea.a", "gauge", "s", "A."), Measure("tea.a", "counter", "s", "A."))),
        "tea.a is another's metric",
    ),
    "the name of one of ours": (Detector("order"), "there is another detector 'order'"),
    "a metric of ours": (
        Detector("tea", recorded=(Measure("otel_pipeline.data.age", "gauge", "s", "Ours."),)),
        "otel_pipeline.data.age is another's metric",
    ),
    "a row of no light": (
        Detector("tea", rules=(Rule("tea", lambda _: None),)),
        "there is no light 'tea'",
    ),
    "a name that may become ours": (
        Detector("tea", recorded=(Measure("otel_pipeline.tea", "gauge", "s", "Ours."),)),
        "otel_pipeline.tea is another's metric",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_left_out_and_said(case, monkeypatch):
    """With the name of its entry point, and why."""
    brought, reason = UNUSABLE[case]
    guard, point = Guard(), EntryPoint("brew", "their_tea:brought", ENTRY_POINTS)
    monkeypatch.setitem(sys.modules, "their_tea", type(sys)("their_tea"))
    sys.modules["their_tea"].brought = brought

    assert detectors(guard, [point]) == own_detectors()
    assert guard.problems == {"observer.brew": f"the detector 'brew' is left out: {reason}"}


@pytest.mark.parametrize(
    ("source", "error"), [("import no_tea", "ModuleNotFoundError"), ("raise SystemExit", "SystemExit")]
)
def test_what_cannot_be_imported_is_left_out_and_said(tmp_path, monkeypatch, source, error):
    """A broken package beside does not keep a service from starting, nor end it."""
    (tmp_path / "bad_tea.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    guard, point = Guard(), EntryPoint("brew", "bad_tea:brought", ENTRY_POINTS)

    assert detectors(guard, [point]) == own_detectors()
    assert guard.problems == {"observer.brew": f"the detector 'brew' is left out: loading it failed with {error}"}


THEIRS = """
from dataclasses import dataclass
from operator import attrgetter

from otel_pipeline.detectors.measures import Detector
from otel_pipeline.engine.measures import FLOW, Measure
from otel_pipeline.settings import option

LARGE = Measure("their.large_messages", "counter", "{message}", "Messages above the limit.", FLOW).label()


@dataclass(frozen=True)
class LargeSettings:
    limit: int = option("destinations.*.large_above", "count", 100, "From which size on a message is large.")


class Large:
    def __init__(self, size_of, limit):
        self._size_of, self._limit, self.seen = size_of, limit, 0

    def delivered(self, messages, now_ms):
        self.seen += sum(size > self._limit for size in map(self._size_of, messages))


DETECTOR = Detector(
    "large",
    watch=lambda at: Large(at.fields.body_bytes, at.said(LargeSettings).limit),
    counts={LARGE: attrgetter("seen")},
    settings=(LargeSettings,),
)
"""


def test_an_installed_package_brings_a_detector(telemetry, tmp_path, monkeypatch):
    """By its entry point: with an option in the file, and a metric that passes the checker."""
    information = tmp_path / "site" / "their_large-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-large\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nlarge = their_large:DETECTOR\n")
    (tmp_path / "site" / "their_large.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "otel_pipeline.yaml").write_text("destinations: {orders: {large_above: 9}}\n")
    try:
        pipe = telemetry.instrument(config_file=tmp_path / "otel_pipeline.yaml")
        consumer = Consumer(
            pipe._engine,
            FIELDS,
            attributes={"messaging.system.name": "kafka"},
            client_id=None,
            group="g",
            excluded=False,
            operation="poll",
        )
        observer = consumer.partition("orders", 0).observer
        for offset, size in enumerate((9, 10, 11)):
            observer.one(("orders", 0, offset, 1, None, [], None, size), offset, 1, None, None, 1)
        (point,) = telemetry.metric("their.large_messages").points
    finally:
        sys.modules.pop("their_large", None)

    assert (pipe.status().problems, pipe.status().errors, point.value) == ((), {}, 2)


def test_the_page_for_third_parties_is_right(watching):
    """Its example, word for word."""
    page = (Path(__file__).parents[2] / "docs" / "contributing.md").read_text("utf-8")
    example = {}
    exec(re.findall(r"```python\n(.*?)```", page.partition("otel_pipeline_observer]")[2], re.DOTALL)[0], example)  # noqa: S102
    found = watching(tables=(*own_detectors(), example["DETECTOR"]))
    found.deliver(found.message(0), (*found.message(1)[:7], 1_000_001), (*found.message(2)[:7], 1_000_000))

    assert [count for _, count in found.points("their.large_messages")] == [1]


def test_a_value_that_an_attribute_does_not_have_is_no_label():
    """A typing error ends at the import, not as a series of its own."""
    measure = Measure(
        "tea.pots", "counter", "{pot}", "Pots.", (*FLOW, Attribute("tea.kind", "Kind.", ("big", "small")))
    )

    assert measure.label("big").attributes == {"tea.kind": "big"}
    with pytest.raises(ValueError, match=r"'bigg' is no tea\.kind: big, small"):
        measure.label("bigg")
    with pytest.raises(ValueError, match="shorter"):
        measure.label()


def test_what_was_never_counted_is_0():
    """In sums as in windows; a count has its values' names for people."""
    sums = Sums({GREEN: 3})

    assert (sums[GREEN], sums[BLACK], sums.of(CUPS), str(GREEN)) == (3, 0, {("green",): 3}, "green")
