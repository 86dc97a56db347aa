"""Dashboard and rules only use metrics and labels that there are, and the lights show what they should."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict

import pytest
import yaml

from real import prometheus

METRICS = {series: metric.labels for metric in prometheus.metrics() for series in metric.series}
TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|\[[^\]]*\]|[a-zA-Z_:][\w:]*|=~|!~|!=|[\d.]+(?:e\d+)?[smhdwy]?|\S)')
GROUPING = {"by", "without"}
MATCHING = {"on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "offset", "bool"}
VALUES = {"$__rate_interval": "5m", "$__range": "3h"}


class Query:
    """The metrics of a PromQL expression, the labels it selects by, groups by and joins on."""

    def __init__(self, text):
        self.tokens = TOKEN.findall(text)
        self.metrics = set()
        self.wrong = []
        self._read(0, len(self.tokens), [])

    def _read(self, at, end, groupings):
        while at < end:
            token = self.tokens[at]
            following = self.tokens[at + 1] if at + 1 < end else ""
            if token in GROUPING:
                labels, at = self._labels(at + 1)
                assert self.tokens[at] == "(", "write `sum by (label) (expression)`"
                close = self._closing(at)
                inside = self.tokens[at + 1 : close]
                if "group_right" in inside or "group_left" in inside:
                    # The sides of a join have different labels, the result has those of both.
                    sides = [labels_of(name) for name in inside if name in METRICS]
                    self.wrong += [f"neither side has {label}" for label in labels - set.union(*sides)]
                    labels &= set.intersection(*sides)
                self._read(at + 1, close, [*groupings, labels])
                at = close + 1
            elif token in MATCHING:
                labels, at = self._labels(at + 1)
                self.matched = getattr(self, "matched", set()) | labels
            elif re.match(r"[a-zA-Z_:]", token) and following not in {"(", *GROUPING} and token not in WORDS:
                at = self._metric(at, groupings)
            else:
                at += 1

    def _metric(self, at, groupings):
        name = self.tokens[at]
        self.metrics.add(name)
        used = set().union(*groupings)
        at += 1
        if at < len(self.tokens) and self.tokens[at] == "{":
            close = self.tokens.index("}", at)
            used |= set(self.tokens[at + 1 : close : 4])
            at = close + 1
        self.wrong += [f"{name} has no {label}" for label in used - labels_of(name)]
        return at

    def _labels(self, at):
        assert self.tokens[at] == "("
        close = self._closing(at)
        return set(self.tokens[at + 1 : close]) - {","}, close + 1

    def _closing(self, at):
        depth = 0
        for index in range(at, len(self.tokens)):
            depth += {"(": 1, ")": -1}.get(self.tokens[index], 0)
            if depth == 0:
                return index
        raise AssertionError("a parenthesis is open")


def labels_of(name):
    if name == "ALERTS":
        return {"alertname", "alertstate", *prometheus.RESOURCE_LABELS}
    recorded = {rule["record"]: rule["expr"] for rule in prometheus.rules() if "record" in rule}
    if name in recorded:
        return set(re.search(r"by \((.*?)\)", recorded[name])[1].split(", "))
    return METRICS.get(name, set())


def dashboard():
    return json.loads(prometheus.DASHBOARD.read_text("utf-8"))


def dashboard_queries():
    for panel in prometheus.panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


def rule_queries():
    for rule in prometheus.rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


QUERIES = dict([*dashboard_queries(), *rule_queries()])


def substituted(query):
    """As Grafana fills in its variables when all is chosen."""
    for name, value in VALUES.items():
        query = query.replace(name, value)
    return re.sub(r"\$\w+", ".*", query)


@pytest.mark.parametrize("title", QUERIES)
def test_a_query_uses_what_there_is(title):
    """Metrics of the registry by their Prometheus names, and only labels that they have."""
    query = Query(QUERIES[title])
    recorded = {rule["record"] for rule in prometheus.rules() if "record" in rule}

    # The dashboard does not need the rules to be loaded.
    known = {*METRICS, "ALERTS"} | (recorded if title in dict(rule_queries()) else set())
    assert query.metrics - known == set()
    assert query.wrong == []
    assert getattr(query, "matched", set()) - set().union(*map(labels_of, query.metrics)) == set()


def test_the_check_of_queries_finds_mistakes():
    """A wrong name, and a wrong label in each place where one can stand."""
    assert Query("rate(otel_pipeline_lag[5m]) > 0").metrics == {"otel_pipeline_lag"}
    assert Query('otel_pipeline_consumer_lag{a="1", b=~"2"}').wrong != []
    assert Query("sum by (service_name, a) (rate(otel_pipeline_sdk_errors_total[1m]))").wrong == [
        "otel_pipeline_sdk_errors_total has no a"
    ]
    assert Query("max by (a) (otel_pipeline_consumer_lag) and on (b) (x)").matched == {"b"}
    joined = "otel_pipeline_producer_offset - on (x) group_right () otel_pipeline_consumer_offset"
    assert Query(f"sum by (a, messaging_consumer_group_name) ({joined})").wrong == ["neither side has a"]


def test_legends_and_variables_use_labels_that_there_are():
    """`{{label}}` remains after the aggregation; a variable's label is one of its metric."""
    for panel in prometheus.panels():
        for target in panel["targets"]:
            kept = {label for found in re.findall(r"by \((.*?)\)", target["expr"]) for label in found.split(", ")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - kept == set(), panel["title"]

    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            query = Query(metric)
            (name,) = query.metrics
            assert (query.wrong, label in METRICS[name]) == ([], True)


def test_the_dashboard_is_whole():
    """Its variables are there and used; no two panels share an id or a place; each says what it shows."""
    page = dashboard()
    names = [variable["name"] for variable in page["templating"]["list"]]
    assert names == ["datasource", "environment", "service", "destination", "group"]
    text = prometheus.DASHBOARD.read_text("utf-8")
    assert {name for name in re.findall(r"\$\{?(\w+)", text) if not name.startswith("__")} == set(names)

    places, ids = defaultdict(list), [panel["id"] for panel in page["panels"]]
    for panel in page["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                places[x, y].append(panel["title"])
    assert len(set(ids)) == len(ids)
    assert [titles for titles in places.values() if len(titles) > 1] == []
    assert [panel["title"] for panel in prometheus.panels() if not panel["description"]] == []


@pytest.mark.real
def test_every_query_parses(real_promtool, tmp_path):
    """As a recording rule, in the grammar of Prometheus."""
    rules = [{"record": f"query:{number}", "expr": substituted(query)} for number, query in enumerate(QUERIES.values())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([real_promtool, "check", "rules", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
