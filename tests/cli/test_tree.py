from __future__ import annotations

import io

import pytest

from otel_pipeline.cli.output import Output
from otel_pipeline.cli.terminal import Terminal, columns
from otel_pipeline.cli.traces import group
from otel_pipeline.cli.tree import draw
from otel_pipeline.export.otlp_reader import parse
from tests.limits import below_at_above

from .lines import TRACE, demo_lines, otlp, span

WIDE = Terminal()


def drawn(lines, terminal=WIDE, heading=2, **limit):
    spans = [record for line in lines for record in parse(line)]
    trace = group(spans)[TRACE]
    return list(draw(trace, [each for each in spans if each.trace_id != TRACE], terminal, **limit))[heading:]


def printed(lines):
    """The lines as they come out."""
    stream = io.StringIO()
    Output(stream).write("\n".join(lines))
    return stream.getvalue().split("\n")


@pytest.fixture(autouse=True)
def _utc(telemetry):
    """The heading has a local time in it."""


def test_a_trace_over_three_services():
    """The model call and the next send stand under the handler; a pull is a trace of its own and stands below."""
    assert drawn(demo_lines(), heading=0) == [
        "trace 5f0c1a2b5f0c1a2b5f0c1a2b5f0c1a2b",
        "6 spans · 3 services · local → staging → production · 9.0 ms · 2026-11-24 11:40:40",
        "",
        "                                     service   environment  partition@offset  hops  duration  message age  data age",
        "send digits.raw                      ingest    local                    3@12          2.1 ms",
        "└─ process digits.raw                features  staging                  3@12     1   0.90 ms       3.2 ms    3.2 ms",
        "   └─ send digits.features           features  staging                   1@7          1.6 ms",
        "      └─ process digits.features     scorer    production                1@7     2    2.0 ms       2.1 ms    6.0 ms",
        "         ├─ predict digits-v1        scorer    production                            0.70 ms                 6.2 ms",
        "         └─ send digits.predictions  scorer    production               3@11          1.6 ms",
        "",
        "linked from other traces",
        "  poll digits.raw · features · staging · 120 messages · 0.60 ms · links to send digits.raw · trace 99999999999999999999999999999999",
    ]


def test_a_narrow_terminal_without_utf8_gets_two_lines_a_span():
    """Nothing is lost: what does not fit goes on the next line."""
    assert drawn(demo_lines(), Terminal(unicode=False, width=50), heading=1) == [
        "6 spans - 3 services",
        "local -> staging -> production - 9.0 ms",
        "2026-11-24 11:40:40",
        "",
        "send digits.raw",
        "  ingest - local - 3@12 - 2.1 ms",
        "`- process digits.raw",
        "     features - staging - 3@12 - hops 1 - 0.90 ms",
        "     message age 3.2 ms - data age 3.2 ms",
        "   `- send digits.features",
        "        features - staging - 1@7 - 1.6 ms",
        "      `- process digits.features",
        "           scorer - production - 1@7 - hops 2",
        "           2.0 ms - message age 2.1 ms",
        "           data age 6.0 ms",
        "         |- predict digits-v1",
        "         |    scorer - production - 0.70 ms",
        "         |    data age 6.2 ms",
        "         `- send digits.predictions",
        "              scorer - production - 3@11 - 1.6 ms",
        "",
        "linked from other traces",
        "  poll digits.raw - features - staging",
        "  120 messages - 0.60 ms",
        "  links to send digits.raw",
        "  trace 99999999999999999999999999999999",
    ]


def test_a_parent_that_is_missing_is_said():
    """Siblings of one missing parent stand together; nothing is hung under another span instead."""
    lines = [
        otlp([span(3, 8, "send b", "PRODUCER", 2, 3), span(2, 8, "process a", "CONSUMER", 1, 2)], "features"),
        otlp([span(4, 9, "process b", "CONSUMER", 5, 6), span(5, 4, "predict m", "INTERNAL", 5, 5.5)], "scorer"),
    ]

    assert drawn(lines) == [
        "",
        "                                        service   duration",
        "(parent 0000000000000008 not recorded)",
        "├─ process a                            features    1.0 ms",
        "└─ send b                               features    1.0 ms",
        "(parent 0000000000000009 not recorded)",
        "└─ process b                            scorer      1.0 ms",
        "   └─ predict m                         scorer     0.50 ms",
    ]


def test_errors_are_words():
    """The first line of the message, after its type; a failure without either is a failure too."""
    lines = [
        otlp(
            [
                span(1, 0, "process a", "CONSUMER", 0, 2, error="no such digit\nmore", error__type="ValueError"),
                span(2, 1, "predict m", "INTERNAL", 1, 2, error=""),
            ],
            "scorer",
        )
    ]

    assert drawn(lines, heading=1) == [
        "2 spans · 1 service · 2.0 ms · 2026-11-24 11:40:40 · ERROR in 2 spans",
        "",
        "              service  duration",
        "process a     scorer     2.0 ms",
        "  ERROR ValueError: no such digit",
        "└─ predict m  scorer     1.0 ms",
        "     ERROR without a message",
    ]


def test_links_to_others_than_the_parent_are_drawn():
    """In this trace by name, in another one by id."""
    links = [(TRACE, 1), (TRACE, 2), (TRACE, 7), ("9" * 32, 5)]
    lines = [
        otlp(
            [
                span(1, 0, "send a", "PRODUCER", 0, 1),
                span(2, 0, "send b", "PRODUCER", 0.5, 1),
                span(3, 1, "process a", "CONSUMER", 2, 3, links=links),
            ],
            "scorer",
        )
    ]

    assert drawn(lines)[2:] == [
        "send a        scorer     1.0 ms",
        "└─ process a  scorer     1.0 ms",
        "     link to send b of scorer",
        "     link to span 0000000000000007, not recorded",
        "     link to span 0000000000000005 of trace 99999999999999999999999999999999",
        "send b        scorer    0.50 ms",
    ]


def test_a_batch_says_how_many():
    """A batch has no offset."""
    lines = [otlp([span(1, 0, "process a", "CONSUMER", 0, 1, messaging__batch__message_count=1500)], "scorer")]

    assert drawn(lines)[-1] == "process a  scorer     1,500 messages    1.0 ms"


def test_parents_that_go_in_a_circle_are_drawn_once():
    """Broken data is shown, and ends."""
    lines = [otlp([span(1, 2, "a", "INTERNAL", 0, 1), span(2, 1, "b", "INTERNAL", 0.5, 1)], "scorer")]

    assert drawn(lines)[2:] == [
        "(parent 0000000000000002 not recorded)",
        "└─ a                                    scorer     1.0 ms",
        "   └─ b                                 scorer    0.50 ms",
    ]


def test_a_span_that_was_exported_twice_is_drawn_once():
    """Exporters retry."""
    request = otlp([span(1, 0, "a", "INTERNAL", 0, 1)], "scorer")

    assert drawn([request, request])[2:] == ["a  scorer     1.0 ms"]


@pytest.fixture(scope="module")
def chain():
    """A trace that is 30,000 deep."""
    return [otlp([span(at, at - 1, "a", "INTERNAL", at, at) for at in range(1, 30_001)], "scorer")]


def test_a_trace_of_any_depth_is_drawn(chain):
    """Far below, the lines on the left are left out, with how many; so are the spans that nobody would read."""
    lines = drawn(chain)

    assert lines[-2].startswith("…1,959 " + "   " * 39 + "└─ a ")
    assert (len(lines), lines[-1]) == (2003, "and 28,000 more spans: --limit N draws more, --json has all")
    assert max(map(len, lines)) < 200


def test_a_branch_keeps_what_is_drawn_of_it(chain):
    """Not a line for each level above: that would be a gigabyte."""
    (trace,) = group(record for request in chain for record in parse(request)).values()
    branches = list(trace.branches())

    assert (len(branches), branches[-1].depth, max(len(branch.last) for branch in branches)) == (30_000, 29_999, 40)


@below_at_above("draw's limit", 20, 0, 0, 1)
def test_the_limit_of_what_is_drawn(size, outcome):
    """Of spans, of a span's links, and of spans of other traces that link here; what is left out is counted."""
    spans = [span(1, 0, "a", "INTERNAL", 0, 1, links=[("1" * 32, at) for at in range(1, size + 1)])]
    spans += [span(at, 1, "b", "INTERNAL", 0, 1) for at in range(2, size + 1)]
    others = [span(at, 0, "c", "INTERNAL", 0, 1, f"{at:032x}", links=[(TRACE, 1)]) for at in range(1, size + 1)]
    lines = drawn([otlp([*spans, *others], "scorer")], limit=20)

    counts = [sum(word in line for line in lines) for word in ("more link", "more span")]
    assert counts == [outcome, 2 * outcome]
    assert sum("link to span" in line for line in lines) == min(size, 20)


def test_a_narrow_terminal_shows_the_names_of_what_is_deep(chain):
    """Half of it is left for them."""
    lines = drawn(chain, Terminal(width=80), limit=300)

    assert {"a" in line for line in lines if "─" in line} == {True}
    assert max(map(columns, lines)) <= 80


NO_NUMBERS = {"hops": "x\x1b", "delivery__age": "soon", "data__age": "old"}


def test_attributes_of_any_kind_are_drawn():
    """Others write them too: no number, no count, no age."""
    values = {f"otel_pipeline__{name}": value for name, value in NO_NUMBERS.items()}
    place = {"kafka__offset": "a\x07", "messaging__destination__partition__id": "\u202e"}
    lines = [otlp([span(1, 0, "a", "INTERNAL", 0, 1, **values, **place)], "scorer")]
    batch = [otlp([span(1, 0, "a", "INTERNAL", 0, 1, messaging__batch__message_count="\x1b")], "scorer")]

    assert drawn(lines)[-1] == r"a  scorer       \u202e@a\x07  x\x1b    1.0 ms"
    assert drawn(batch)[-1] == r"a  scorer      \x1b messages    1.0 ms"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_an_age_that_is_none_is_a_question(seconds):
    """Nobody measured that."""
    lines = [otlp([span(1, 0, "a", "INTERNAL", 0, 1, otel_pipeline__data__age=seconds)], "scorer")]

    assert drawn(lines)[-1].split()[-1] in {"?", "-?"}


def test_names_cannot_steer_the_terminal():
    """Control characters of telemetry are spelt out."""
    lines = [otlp([span(1, 0, "a\x1b[2Jb\n", "INTERNAL", 0, 1)], "sc\torer")]

    assert drawn(lines)[-1] == r"a\x1b[2Jb\n  sc\torer    1.0 ms"


def test_colour_changes_no_letter():
    """Without its codes the drawing is the same."""
    colored = printed(drawn(demo_lines(), Terminal(color=True), heading=0))
    codes = ("0", "1", "1;31", "2", "31", "32", "33", "34", "35", "36")
    plain = ["".join(line) for line in colored]
    for code in codes:
        plain = [line.replace(f"\x1b[{code}m", "") for line in plain]

    assert plain == drawn(demo_lines(), heading=0)


def test_services_have_colours_of_their_own():
    """A colour a service, in the order in which they come in."""
    row = printed(drawn(demo_lines(), Terminal(color=True)))[3]

    assert "\x1b[35mfeatures\x1b[0m  \x1b[35mstaging\x1b[0m" in row
