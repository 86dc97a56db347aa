"""The demo with faults: what was injected, found and invented, and the harm."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest

from otel_pipeline.cli.main import main
from otel_pipeline.cli.terminal import Terminal
from otel_pipeline.demo.fault_plan import FAULTS, FREEZE, FREEZE_AT, Fault, Series
from otel_pipeline.demo.faults_screen import Classic, FaultsResult, screen
from otel_pipeline.demo.findings import Decisions, Findings, Harm
from otel_pipeline.demo.metrics import Metrics
from otel_pipeline.testing.faults.plan import Injected
from tests.cli.lines import fact

pytestmark = pytest.mark.once

MISSING = "otel_pipeline.messages.missing"
STALENESS = "otel_pipeline.data.staleness"


def point(value, **attributes):
    return {
        "asInt": str(value),
        "attributes": [
            {"key": key.replace("__", "."), "value": {"stringValue": text}} for key, text in attributes.items()
        ],
    }


def line(name, *points, service="scorer", kind="sum"):
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    metric = {"name": name, kind: {"dataPoints": list(points)}}
    request = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}
    return json.dumps(request, separators=(",", ":")).encode() + b"\n"


@pytest.fixture
def metrics(tmp_path):
    """Metrics of a file that is empty still."""
    path = tmp_path / "telemetry.jsonl"
    path.touch()
    made = Metrics(path)
    made.path = path
    return made


def test_the_newest_value_of_every_series_counts(metrics):
    """Over all services; half a line is read when it is whole."""
    first = line(MISSING, point(3, cause="a"), point(1, cause="b")) + line(MISSING, point(2, cause="a"), service="x")
    later = line(MISSING, point(5, cause="a"))
    metrics.path.write_bytes(first + later[:20])
    metrics.read()
    before = metrics.total(MISSING, {}), metrics.total(MISSING, {"cause": "a"})
    metrics.path.write_bytes(first + later)
    metrics.read()

    assert (before, metrics.total(MISSING, {}), metrics.total(MISSING, {"cause": "b|c"})) == ((6, 5), 8, 1)


def test_what_a_classic_dashboard_reads(metrics):
    """Failures by error.type, the percentile from the buckets, error logs."""
    buckets = {"explicitBounds": [0.005, 0.01], "bucketCounts": ["98", "1", "1"], "count": "100"}
    failed = {**point(0, error__type="KafkaError"), **buckets, "count": "2", "bucketCounts": ["2", "0", "0"]}
    metrics.take(line("messaging.process.duration", {**point(0), **buckets}, failed, kind="histogram"))
    log = {"severityNumber": 17, "severityText": "ERROR", "body": {"stringValue": "no"}}
    metrics.take(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}).encode())

    assert (
        metrics.failed(),
        metrics.error_logs,
        [metrics.below("messaging.process.duration", share) for share in (0.5, 0.99, 1.0)],
        metrics.below("messaging.process.duration.none", 0.99),
    ) == ((2, 102), 1, [0.005, 0.01, float("inf")], None)


LOST = Fault("lost", "digits.features", "drop", Series(MISSING), 0, 9, {"drop": 0.1})
CHANGED = Fault("changed", "digits.features", "change_field", Series("x"), 0, 9, {}, partition=1, sampled=True)


def looked(metrics, fault, injected, *values, name=MISSING, kind="sum"):
    """Findings after a look at each value, a second apart; injected from the second on."""
    findings = Findings([fault])
    for at, value in enumerate(values):
        metrics.take(line(name, point(value, messaging__consumer__group__name="scorer"), kind=kind))
        findings.look({fault.topic: injected if at else Injected()}, metrics, float(at))
    return findings


@pytest.mark.parametrize(
    ("injected", "values", "reasons", "seconds"),
    [
        (Injected(drop=3), (0, 0, 1, 3), [], 2.0),
        (Injected(drop=3), (0, 0, 2), ["lost: 2 of 3 found by otel_pipeline.messages.missing"], 2.0),
        (Injected(drop=3), (0, 0), ["lost: 0 of 3 found by otel_pipeline.messages.missing"], None),
        (
            Injected(drop=3),
            (0, 5),
            ["lost: 2 invented by otel_pipeline.messages.missing, 5 found and 3 injected"],
            1.0,
        ),
        (
            Injected(),
            (0, 1),
            [
                "lost: nothing was injected",
                "lost: 1 invented by otel_pipeline.messages.missing, 1 found and 0 injected",
            ],
            None,
        ),
    ],
    ids=["all", "some", "none", "too many", "no fault"],
)
def test_found_injected_and_invented(metrics, injected, values, reasons, seconds):
    """Exact where every message is looked at."""
    findings = looked(metrics, LOST, injected, *values)

    assert (findings.reasons(), findings.all[0].seconds, findings.complete) == (
        reasons,
        seconds,
        not reasons[:1] or values == (0, 5),
    )


@pytest.mark.parametrize(("found", "passed"), [(0, False), (1, True), (4, True), (5, False)])
def test_of_what_is_sampled_one_is_enough(metrics, found, passed):
    """One partition's count; never more than were injected."""
    injected = Injected(change_field=9, by_partition={0: {"change_field": 5}, 1: {"change_field": 4}})

    assert (not looked(metrics, CHANGED, injected, 0, found, name="x").reasons()) is passed


@pytest.mark.parametrize(
    ("ages", "found"),
    [((1, 2, 6, 7), 1), ((1, 2, 3, 4), 0), ((1, 6, 1, 6), 2)],
    ids=["one silence", "none", "one too many"],
)
def test_each_silence_is_one_finding(metrics, ages, found):
    """A gauge: what counts is how often it rises above what is expected."""
    findings = looked(metrics, FREEZE, Injected(freeze=1), *ages, name=STALENESS, kind="gauge")

    assert (findings.all[0].found, not findings.reasons()) == (found, found == 1)


def test_what_nobody_injected_fails_the_run(metrics):
    """Whatever kind it is of."""
    metrics.take(line("otel_pipeline.order.violations", point(2, otel_pipeline__violation="redelivered")))
    findings = looked(metrics, LOST, Injected(drop=1), 0, 1)

    assert findings.reasons() == ["2 invented by otel_pipeline.order.violations redelivered"]


def test_the_plan_has_windows_one_after_the_other():
    """In each partition, with clean messages before the first; the freeze begins when the last of them is over."""
    windows = [(fault.first, fault.last) for fault in FAULTS if fault.last is not None]

    assert (windows[0][0] >= 40, windows[-1][1] < FREEZE_AT < FAULTS[-1].first) == (True, True)
    assert all(before[1] < after[0] for before, after in pairwise(windows))


def test_the_harm_of_a_window():
    """Undecided, decided twice, on old data; accuracy of what was decided and the model was not trained on."""
    decisions = Decisions(
        predictions={1: (4, 4), 2: (5, 5), 3: (0, 7), 5: (1, 1)},
        times_s={1: 0.1, 2: 9.0, 3: 0.1, 5: 0.2},
        counts=Counter({1: 2, 2: 1, 3: 1, 5: 1}),
        without={1: 4, 3: 7, 5: 2, 7: 7},
    )
    harm = decisions.harm([1, 2, 3, 5, 7], 5.0)

    assert (harm, harm.words) == (
        Harm(images=5, undecided=1, twice=1, late=1, judged=3, right=2, right_without=2),
        "1 of 5 never decided, 1 of 5 decided twice, 1 of 5 on old data",
    )


def result(findings, **changes):
    harm = Harm(images=160, undecided=3, twice=0, late=0, judged=80, right=8, right_without=79)
    classic = {"failed": 0, "operations": 10433, "error_logs": 0, "process_p99_s": 0.01, "cpu_share": 0.14}
    return FaultsResult(
        broker="embedded",
        messages=1797,
        seconds=53.35,
        findings=findings,
        harms=[harm],
        whole=harm,
        classic=Classic(**{**classic, **changes}),
        lights=(),
        telemetry="/state/telemetry",
    )


def test_the_screen(metrics):
    """A dashboard that is green, the lights, and the table."""
    lines = list(screen(result(looked(metrics, LOST, Injected(drop=3), 0, 0, 3)), Terminal()))

    assert lines[:9] == [
        "",
        "broker    embedded",
        "messages  1,797 sent, 1 faults between the services",
        "time      53.35 s in all",
        "accuracy  10.0% of 80 images that the model was not trained on, 98.8% without the faults",
        "",
        "what a dashboard says that knows nothing of the data",
        "  errors            green  0 of 10,433 operations failed, 0 error logs",
        "  process time p99  green  under 10 ms (messaging.process.duration)",
    ]
    assert lines[9:10] + lines[-5:] == [
        "  CPU               green  14% of a core for each service",
        "fault  found/injected  after  invented  as                              accuracy       other harm",
        "lost              3/3  2.0 s         0  otel_pipeline.messages.missing  98.8% → 10.0%  3 of 160 never decided",
        "",
        "every fault was found, and none was invented",
        "telemetry  /state/telemetry",
    ]


def test_a_failed_run_says_why(metrics):
    """In the last lines; and a dashboard that is not green is shown as it is."""
    told = result(looked(metrics, LOST, Injected(drop=3), 0, 2), failed=1, process_p99_s=None, cpu_share=0.9)
    lines = list(screen(told, Terminal()))

    assert (told.passed, lines[-2]) == (False, "failed  lost: 2 of 3 found by otel_pipeline.messages.missing")
    assert sum("amber" in text for text in lines[7:10]) == 3


def test_faults_need_all_messages(capsys):
    """And telemetry that can be read."""
    assert (main(["demo", "--faults", "--messages", "40"]), capsys.readouterr().err.splitlines()[0]) == (
        2,
        "otel-pipeline: --faults reads the telemetry and needs all messages",
    )


@pytest.mark.broker
def test_the_demo_with_faults(demo):
    """Every fault found, none invented, and a model that is worse for it."""
    pytest.importorskip("sklearn")
    code, out, err = demo("--faults")

    assert code == 0, "\n".join([*out, err])
    rows = {fault.title: fact(out, fault.title).split()[0] for fault in FAULTS}
    found = {title: [int(count) for count in text.split("/")] for title, text in rows.items()}
    assert all(1 <= seen <= injected for seen, injected in found.values())
    assert (
        sum("green" in text for text in out[out.index("what a dashboard says that knows nothing of the data") :][1:4])
        == 3
    )
