"""The tables as they are: each name is written once, and every series is there from the beginning."""

from __future__ import annotations

import ast
from pathlib import Path

import otel_pipeline
from otel_pipeline.detectors.environments import FOREIGN
from otel_pipeline.detectors.measures import own_detectors
from otel_pipeline.testing import registry

ROOT = Path(otel_pipeline.__file__).parent
EVERYDAY = {
    *("allow", "flag", "reject"),  # what the configuration says of an environment
    *("fresh", "order", "pace", "contract", "environment"),  # the lights, and what they are about
    *("producer", "consumer"),  # of clients
    *("delivery", "data", "event"),  # the ages, which objectives are about
    "paused",  # what every Kafka client calls it
    *("traces", "metrics", "logs"),  # OpenTelemetry's signals
    *("file", "learned"),  # what options, files and learners are called
    "delivered",  # what detectors are told of messages
    *("duplicate", "reordered", "relayed"),  # what testing.faults injects
    *("rewound", "redelivered", "cut"),  # of a position, of a consumer, of a log, and what is counted of them
    *("behind", "not served"),  # figures and rows of a light, as well as words of a consumer's state
    *("ok", "true", "false", "unknown", "missing", "skipped", "unreadable"),
}
"""Values that are words of other things as well."""


def strings_by_file():
    """Of each file but the generated one the strings that stand in it as a whole; docstrings are none."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
        }
        if path.name != "semconv.py":
            yield path.relative_to(ROOT).as_posix(), found


def test_each_name_is_written_in_one_file():
    """Of a metric, of an attribute, of an attribute's value: whoever else needs it imports the label."""
    values = {value for attribute in registry.attributes().values() for value in attribute.values}
    names = {*registry.metrics(), *registry.attributes(), *values}
    files = {}
    for path, strings in strings_by_file():
        for name in strings & names:
            files.setdefault(name, []).append(path)

    assert {name: found for name, found in files.items() if len(found) > 1 and name not in EVERYDAY} == {}


def test_every_count_is_there_from_the_first_sight_of_a_flow(watching):
    """At 0: a series that is born above it raises no alert. Before any message, with the first fetch."""
    found = watching(environment="production")
    found.consumer.fetch_observer("orders", 0)
    names = [measure.name for table in own_detectors() for measure in (*(each.measure for each in table.counts),)]
    metrics = {name for name in names if name in registry.metrics()}
    born = {name: [count for _, count in found.points(name)] for name in {*metrics, FOREIGN.name}}

    assert {count for counts in born.values() for count in counts} == {0}
    assert {name: len(counts) for name, counts in born.items()} == {
        "otel_pipeline.clock.impossible_ages": 3,
        "otel_pipeline.clock.negative_ages": 1,
        "otel_pipeline.commit.ahead": 1,
        "otel_pipeline.header.coverage": 4,
        "otel_pipeline.messages.foreign_environment": 5,
        "otel_pipeline.messages.missing": 5,
        "otel_pipeline.order.violations": 6,
    }


def test_a_measure_belongs_to_one_table():
    """A second one of the same name would count into the first; only counts may be added to another's measure."""
    measures = {id(measure): measure.name for table in own_detectors() for measure in table.measures}

    assert sorted(measures.values()) == sorted(set(measures.values()))


def test_each_measure_says_what_it_means():
    """In a sentence, for the page; and so does each attribute."""
    briefs = {each.brief for each in (*registry.metrics().values(), *registry.attributes().values())}

    assert [brief for brief in briefs if not brief.endswith(".")] == []
