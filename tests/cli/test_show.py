from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from otel_pipeline.cli import show, telemetry_files
from otel_pipeline.cli.main import main
from otel_pipeline.cli.traces import group
from otel_pipeline.export.otlp_reader import parse

from .lines import TRACE, demo_lines, otlp, span

OTHER = "5f0c9" + "1" * 27


@pytest.fixture
def run(capsys):
    """Run the command; returns exit code, lines of stdout, lines of stderr."""

    def command(*words):
        code = main(["show", *words])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return command


def two_traces(telemetry):
    telemetry(demo_lines())
    later = [otlp([span(1, 0, "send orders", "PRODUCER", 5000, 5001, OTHER, error="no")], "shop", "test")]
    telemetry(later, "shop-2-2.jsonl")


def test_the_newest_trace_is_the_default(telemetry, run):
    """`show` is `show --last`."""
    two_traces(telemetry)

    assert (run()[1][0], run("--last")[1][0]) == (f"trace {OTHER}", f"trace {OTHER}")


def test_a_trace_is_found_by_the_beginning_of_its_id(telemetry, run):
    """In any case, with the pull of another trace that links into it."""
    two_traces(telemetry)
    code, out, err = run("5F0C1A")

    assert (code, out[0], out[-2], err) == (0, f"trace {TRACE}", "linked from other traces", [])


def test_the_list(telemetry, run):
    """Newest first, a line each, with as much of the id as tells them apart; receive spans alone are no entry."""
    two_traces(telemetry)

    assert run("--list") == (
        0,
        [
            "time                 trace     spans  duration  errors  root             services",
            "2026-11-24 11:40:45  5f0c9111      1    1.0 ms       1  send orders      shop",
            "2026-11-24 11:40:40  5f0c1a2b      6    9.0 ms       0  send digits.raw  ingest → features → scorer",
        ],
        [],
    )


def test_the_list_is_limited(telemetry, run):
    """It says what is left out."""
    two_traces(telemetry)

    assert run("--list", "--limit", "1")[1][1:] == [
        "2026-11-24 11:40:45  5f0c9111      1    1.0 ms       1  send orders  shop",
        "and 1 older trace: --limit 2",
    ]


def test_the_list_of_all(telemetry, run):
    """With the traces that are a receive span alone."""
    telemetry(demo_lines())

    assert [line.split("  ")[1] for line in run("--list", "--all")[1][1:]] == ["99999999", "5f0c1a2b"]


def test_a_trace_as_json(telemetry, run):
    """What the drawing leaves out, links to parents for example, is in there."""
    telemetry(demo_lines())
    content = json.loads("\n".join(run("--json")[1]))

    assert (
        content["trace_id"],
        [len(each["links"]) for each in content["spans"]],
        [each["name"] for each in content["linked"]],
    ) == (TRACE, [0, 1, 0, 1, 0, 0], ["poll digits.raw"])


def test_the_list_as_json(telemetry, run):
    """One object a trace."""
    telemetry(demo_lines())

    assert json.loads("\n".join(run("--list", "--json")[1])) == [
        {
            "trace_id": TRACE,
            "start_ns": 1_795_520_440_000_000_000,
            "root": "send digits.raw",
            "services": ["ingest", "features", "scorer"],
            "environments": ["local", "staging", "production"],
            "spans": 6,
            "duration_s": 0.009,
            "errors": 0,
        }
    ]


def test_given_files_and_folders(telemetry, run, tmp_path):
    """Instead of what lies in the state folder."""
    two_traces(telemetry)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = telemetry(demo_lines("7" * 32), "x.jsonl").rename(elsewhere / "collector.json")

    assert (run("--file", str(file))[1][0], run("--file", str(elsewhere))[1][0]) == (f"trace {'7' * 32}",) * 2


def test_bad_lines_are_said(telemetry, run):
    """They are counted; the rest is drawn."""
    path = telemetry(demo_lines())
    path.write_text(path.read_text() + '{"resourceSpans": [{"sco')
    code, _, err = run("--last")

    assert (code, err) == (0, ["otel-pipeline: 1 line could not be read as OTLP JSON"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("zebra",), "'zebra' is no trace id"),
        (("5" * 33,), f"'{'5' * 33}' is no trace id"),
        (("abcdef",), "no trace that begins with abcdef in 2 files"),
        (("5f0c",), "2 traces begin with 5f0c, give more digits"),
        (("--file", "/nowhere/x.jsonl"), "there is no file /nowhere/x.jsonl"),
    ],
)
def test_errors_are_sentences(telemetry, run, words, said):
    """What is wrong on the first line, exit code 1."""
    two_traces(telemetry)
    code, out, err = run(*words)

    assert (code, out, err[0]) == (2, [], f"otel-pipeline: {said}")


def test_without_telemetry_the_way_to_some_is_said(telemetry, run, tmp_path):
    """The folder, and three ways to go on."""
    assert run() == (
        2,
        [],
        [
            f"otel-pipeline: no telemetry in {tmp_path}/telemetry",
            "  `otel-pipeline demo` makes some; a service with otel_pipeline.instrument() writes there",
            "  in the environment `local` while no collector listens; files from elsewhere: --file PATH",
        ],
    )


def test_a_file_of_something_else(telemetry, run, tmp_path):
    """Not a traceback, whatever the bytes."""
    other = tmp_path / "other.json"
    other.write_bytes(bytes(range(256)))

    assert run("--file", str(other)) == (
        2,
        [],
        [
            "otel-pipeline: no trace in 1 file, 2 lines could not be read",
            "  files are read as OTLP JSON, one export request per line",
        ],
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(telemetry, run):
    """Whose it is, is not ours to say."""
    path = telemetry(demo_lines())
    path.chmod(0)

    assert run()[2] == [f"otel-pipeline: cannot read {path}: Permission denied"]


def test_only_receive_spans_are_better_than_nothing(telemetry, run):
    """A consumer whose producers are not recorded."""
    receive = span(1, 0, "poll a", "CLIENT", 0, 1, messaging__operation__type="receive")
    telemetry([otlp([receive], "features")])

    assert run("--last")[1][0] == f"trace {TRACE}"


def test_the_newest_files_come_first(telemetry):
    """Of much telemetry the newest is parsed to find the newest traces, at least one file."""
    old, new = telemetry(demo_lines(), "old.jsonl"), telemetry(demo_lines(), "new.jsonl")
    os.utime(old, (1, 1))

    assert telemetry_files.recorded().newest(limit_bytes=10) == [new]


def test_enough_of_the_id_to_tell_traces_apart():
    """More than eight digits where it must be."""
    lines = demo_lines("ab" * 5 + "1" * 22) + demo_lines("ab" * 5 + "2" * 22)
    traces = list(group(record for line in lines for record in parse(line)).values())

    assert show._short(traces) == 11


def test_a_pipe_that_closes_early_is_no_error(telemetry, tmp_path):
    """As with `| head -1`: no traceback."""
    telemetry([otlp([span(at, 0, "a" * 200, "INTERNAL", at, at) for at in range(1, 2000)], "scorer")])
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_pipeline.cli.main", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()

    assert (process.wait(10), said) == (141, b"")


def test_the_newest_run_of_the_demo_is_shown(telemetry, run, tmp_path):
    """`otel-pipeline demo` keeps its telemetry by itself; who runs `show` after it wants to see it."""
    path = telemetry(demo_lines())
    for name in ("20260101-100000-1", "20260102-100000-2"):
        (tmp_path / "demo" / name / "telemetry").mkdir(parents=True)
    path.rename(tmp_path / "demo" / "20260102-100000-2" / "telemetry" / "telemetry.jsonl")

    assert (run()[0], run()[1][0]) == (0, f"trace {TRACE}")
