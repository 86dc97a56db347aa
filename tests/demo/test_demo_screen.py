from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest

from otel_pipeline.cli.output import Output
from otel_pipeline.cli.terminal import Terminal
from otel_pipeline.demo.check import check
from otel_pipeline.demo.screen import Progress, Result, command, screen
from otel_pipeline.export.otlp_reader import LogRecord, parse
from tests.cli.lines import START_NS, TRACE, demo_lines

LOG = LogRecord(
    START_NS + 6_500_000, "INFO", 9, "image 7 looks like a 3, a person saw a 3", {}, TRACE, "4".zfill(16), 1, {}, ""
)


@pytest.fixture(autouse=True)
def _utc(telemetry):
    """The screen has local times in it."""


def result(**changes):
    spans = [record for line in demo_lines() for record in parse(line)]
    whole = Result(
        broker="embedded at 127.0.0.1:9092",
        messages=1797,
        missing={},
        seconds=9.2,
        streaming_seconds=4.4,
        right=886,
        judged=898,
        mixed=(),
        wrapper=False,
        verdict=check(spans, 1),
        spans=spans,
        log=LOG,
        telemetry="/state/demo/1/telemetry",
        trace_id=TRACE,
    )
    return replace(whole, **changes)


def test_the_screen(monkeypatch):
    """All that issue B asks for, in that order."""
    monkeypatch.setattr("otel_pipeline.demo.screen.command", lambda: "otel-pipeline")
    assert list(screen(result(), Terminal())) == [
        "",
        "broker         embedded at 127.0.0.1:9092",
        "messages       1,797 through 3 services, none missing",
        "time           4.40 s of streaming, 9.20 s in all",
        "accuracy       98.7% of 898 images that the model was not trained on",
        "broken traces  0",
        "",
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
        "",
        "hop                environments          messages  delivery age p50     p99  process time p99",
        "ingest → features  local → staging              1            3.2 ms  3.2 ms           0.90 ms",
        "features → scorer  staging → production         1            2.1 ms  2.1 ms            2.0 ms",
        "",
        "a log line, with the trace it belongs to",
        "  11:40:40.006 INFO image 7 looks like a 3, a person saw a 3 · trace_id=5f0c1a2b5f0c1a2b5f0c1a2b5f0c1a2b · span_id=0000000000000004",
        "",
        "telemetry     /state/demo/1/telemetry",
        "open it       otel-pipeline show 5f0c1a2b5f0c --file /state/demo/1/telemetry",
        "all traces    otel-pipeline show --list --file /state/demo/1/telemetry",
        "your service  import otel_pipeline; otel_pipeline.instrument()",
    ]


def test_what_is_wrong_is_said_first():
    """Messages that are missing, by topic; broken traces, each with its reason, the first five of them."""
    lines = [demo_lines(f"{number:032x}", first=1)[:2] for number in range(1, 8)]
    spans = [record for request in lines for line in request for record in parse(line)]
    changed = result(
        missing={"digits.features": 2, "digits.predictions": 3}, verdict=check(spans, 10), mixed=[4, 5], log=None
    )

    assert list(screen(changed, Terminal()))[2:15] == [
        "messages       1,797 through 3 services, 2 missing in digits.features, 3 missing in digits.predictions",
        "time           4.40 s of streaming, 9.20 s in all",
        "accuracy       98.7% of 898 images that the model was not trained on",
        "broken traces  10",
        "  3 messages without any trace",
        *(f"  {number:032x}: no process of scorer" for number in range(1, 6)),
        "  and 2 more",
        "  2 images without one trace id in all topics, image 4 for example",
        "",
    ]


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"missing": {"digits.raw": 1}}, False),
        ({"mixed": [1]}, False),
        ({"verdict": check([], 1)}, False),
        ({"verdict": None}, True),
    ],
)
def test_when_the_demo_has_failed(changes, passed):
    """One message missing, one trace broken, in what was recorded or in what was carried, is enough."""
    assert result(**changes).passed is passed


def test_telemetry_that_went_elsewhere():
    """What cannot be shown is said, and what to look for there."""
    lines = list(screen(result(verdict=None, log=None, telemetry="http://127.0.0.1:4318"), Terminal()))

    assert lines[5:] == [
        "broken traces  0, by the trace ids in the messages' headers",
        "",
        "telemetry     http://127.0.0.1:4318",
        "              it was not read back: the tree, the ages and the log lines are there, not here",
        "look up       trace 5f0c1a2b5f0c1a2b5f0c1a2b5f0c1a2b",
        "your service  import otel_pipeline; otel_pipeline.instrument()",
    ]


def test_under_the_wrapper_no_line_is_advised():
    """The command instead."""
    assert list(screen(result(wrapper=True), Terminal()))[-1] == (
        "your service  opentelemetry-instrument python your_service.py   (no line of code)"
    )


def test_accuracy_of_nothing_is_not_a_number():
    """With one message, which the model was trained on."""
    assert "accuracy       no image that the model was not trained on" in screen(result(right=0, judged=0), Terminal())


def test_progress_in_a_file_is_a_line_each_quarter():
    """No carriage returns, no hundreds of lines."""
    stream = io.StringIO()
    progress = Progress(stream)
    for done in range(1, 101):
        progress.count(done, 100, "classified")

    assert stream.getvalue().splitlines() == [f"classified {done}/100" for done in (25, 50, 75, 100)]


def test_progress_on_a_terminal_is_in_place():
    """One line that is written over, ended before the next one."""
    stream = io.StringIO()
    stream.isatty = lambda: True
    progress = Progress(Output(stream))
    progress.count(1, 2, "classified")
    progress.count(2, 2, "classified")
    progress.say("done")

    assert stream.getvalue() == "\rclassified 1/2\rclassified 2/2\ndone\n"


@pytest.mark.parametrize("how", ["on the path", "not on the path", "without a script"])
def test_the_command_that_is_printed_can_be_typed(tmp_path, monkeypatch, how):
    """By its name where the path finds this very installation, else from where the shell is, else without a script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin") if how == "on the path" else "/nowhere")
    (tmp_path / "bin").mkdir()
    if how != "without a script":
        (tmp_path / "bin" / "otel-pipeline").write_text("")
        (tmp_path / "bin" / "otel-pipeline").chmod(0o755)

    assert (
        command()
        == {
            "on the path": "otel-pipeline",
            "not on the path": "bin/otel-pipeline",
            "without a script": f"{tmp_path}/bin/python -m otel_pipeline",
        }[how]
    )


def test_another_installation_on_the_path_is_not_the_one_that_is_printed(tmp_path, monkeypatch):
    """It may be of another version, or without what the demo needs."""
    for name in ("bin", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "otel-pipeline").write_text("")
        (tmp_path / name / "otel-pipeline").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path / "other")

    assert command() == f"{tmp_path}/bin/otel-pipeline"
