from __future__ import annotations

import pytest

from otel_pipeline.demo.check import Hop, check, percentile
from otel_pipeline.export.otlp_reader import parse
from tests.cli.lines import TRACE, demo_lines

OTHER = "a" * 32


def requests():
    """Two messages of the demo."""
    return demo_lines() + demo_lines(OTHER, first=201)


def records(lines):
    return [record for line in lines for record in parse(line)]


def spans(lines):
    """All spans as they stand in the lines, to be changed."""
    return [span for line in lines for span in line["resourceSpans"][0]["scopeSpans"][0]["spans"]]


def named(lines, name):
    return next(span for span in spans(lines) if span["name"] == name)


def without(lines, name):
    """The lines, the first span of that name left out."""
    gone = named(lines, name)
    for line in lines:
        scope = line["resourceSpans"][0]["scopeSpans"][0]
        scope["spans"] = [span for span in scope["spans"] if span is not gone]
    return lines


def test_whole_traces():
    """Every message has its six spans in one trace."""
    verdict = check(records(requests()), 2)

    assert ([trace.trace_id for trace in verdict.whole], verdict.broken, verdict.untraced, verdict.broken_traces) == (
        [TRACE, OTHER],
        {},
        0,
        0,
    )


def test_the_hops():
    """Ages as the receiving services measured them, durations of their handlers."""
    assert check(records(requests()), 2).hops == (
        Hop("ingest", "features", 2, 0.0032, 0.0032, pytest.approx(0.0009)),
        Hop("features", "scorer", 2, 0.0021, 0.0021, pytest.approx(0.002)),
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("send digits.raw", "a trace of its own, without the send of ingest"),
        ("process digits.raw", "no process of features"),
        ("send digits.features", "no send of features"),
        ("process digits.features", "no process of scorer"),
        ("predict digits-v1", "no model call of scorer"),
        ("send digits.predictions", "no send of scorer"),
    ],
)
def test_a_missing_span_breaks_a_trace(name, reason):
    """Whichever it is."""
    assert check(records(without(requests(), name)), 2).broken == {TRACE: reason}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("send digits.raw", "send of ingest is no root"),
        ("process digits.raw", "process of features is not a child of send of ingest"),
        ("predict digits-v1", "model call of scorer is not a child of process of scorer"),
        ("send digits.predictions", "send of scorer is not a child of process of scorer"),
    ],
)
def test_a_wrong_parent_breaks_a_trace(name, reason):
    """One trace id alone is not enough."""
    lines = requests()
    named(lines, name)["parentSpanId"] = "f" * 16

    assert check(records(lines), 2).broken == {TRACE: reason}


def test_a_handler_in_a_trace_of_its_own_breaks_both():
    """What the others do: the handler starts anew."""
    lines = requests()
    for span in spans(lines)[4:7]:
        span["traceId"] = "b" * 32

    assert check(records(lines), 2).broken == {
        TRACE: "no process of scorer",
        "b" * 32: "a trace of its own, without the send of ingest",
    }


def test_two_messages_in_one_trace_are_broken():
    """A header list that was used again, for example."""
    assert check(records(demo_lines() + demo_lines(first=201)), 2).broken == {TRACE: "two messages in one trace"}


def test_a_wrong_environment_breaks_a_trace():
    """All three were to run as environments of their own."""
    lines = requests()
    attribute = lines[1]["resourceSpans"][0]["resource"]["attributes"][1]
    attribute["value"] = {"stringValue": "production"}

    assert check(records(lines), 2).broken == {TRACE: "process of features says environment production, not staging"}


def test_messages_without_a_trace_are_counted():
    """A send that was never recorded."""
    verdict = check(records(demo_lines()), 3)

    assert (verdict.untraced, verdict.broken_traces) == (2, 2)


def test_a_redelivery_breaks_nothing():
    """A message may be handled twice: two branches, one trace."""
    again = demo_lines(first=201)[1:]
    named(again, "process digits.raw")["parentSpanId"] = f"{1:016x}"

    assert check(records(demo_lines() + again), 1).broken == {}


def test_other_traces_of_the_services_are_left_alone():
    """A service may do more than pass on messages."""
    lines = requests()
    lines.append(demo_lines("c" * 32, first=301)[0])
    spans(lines)[-1].update(name="send audit", attributes=[])

    assert check(records(lines), 2).broken_traces == 0


def test_topics_with_a_prefix():
    """On a real broker each run has topics of its own."""
    assert check(records(requests()), 2, prefix="run1.").untraced == 2


@pytest.mark.parametrize(("rank", "value"), [(50, 2), (99, 4), (1, 1)])
def test_percentiles(rank, value):
    """Nearest rank: a value that was there."""
    assert percentile([4, 1, 3, 2], rank) == value


def test_a_percentile_of_nothing():
    """Not zero."""
    assert percentile([], 50) is None
