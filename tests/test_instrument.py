"""`instrument()`: idempotent, never keeps a service from starting, and its status can be read."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import otel_pipeline
from otel_pipeline.engine.batch import Batch, batch_in_hand
from otel_pipeline.engine.totals import Totals


def test_a_second_call_gives_the_same_handle(telemetry):
    """As a notebook cell that is run twice."""
    first = telemetry.instrument("a")

    assert telemetry.instrument("b") is first


def test_an_unknown_keyword_is_a_type_error(telemetry):
    """As in any Python call."""
    with pytest.raises(TypeError, match="sample_rat"):
        telemetry.instrument(sample_rat=1)


def test_bad_values_are_said_and_the_default_is_used(telemetry):
    """Each once, with the remedy; only `strict` raises, and then all of them at once."""
    pipe = telemetry.instrument(sample_rate=7, endpoint="nowhere", environment="staging")
    said = pipe.status().problems
    pipe.uninstrument()
    with pytest.raises(otel_pipeline.ConfigError) as raised:
        telemetry.instrument(sample_rate=7, endpoint="nowhere", environment="staging", strict=True)

    assert said == (
        "argument of instrument(): sample_rate is 7; give a number from 0 to 1",
        "argument of instrument(): endpoint is 'nowhere'; give an address such as http://127.0.0.1:4318",
    )
    assert tuple(map(str, raised.value.problems)) == said


def test_a_disabled_sdk_leaves_everything_alone(telemetry, monkeypatch):
    """And says so."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    pipe = telemetry.instrument()
    with otel_pipeline.inference("model"):
        pass

    assert (pipe.active, pipe.status().reason, telemetry.spans()) == (False, "OTEL_SDK_DISABLED is true", [])
    assert (pipe.flush(1), pipe.shutdown(1)) == (True, True)


def test_a_failure_while_starting_is_not_the_applications(telemetry, monkeypatch):
    """The service starts, without telemetry; the handle says why."""
    monkeypatch.setattr("otel_pipeline.pipeline._engine_settings", lambda *_arguments: 1 / 0)
    pipe = telemetry.instrument()

    assert (pipe.active, pipe.status().errors) == (False, {"instrument": 1})
    assert "ZeroDivisionError" in str(pipe.status())


def test_status_reads_well(telemetry):
    """One page for a person."""
    pipe = telemetry.instrument("scorer", environment="local", disable=["sklearn"])
    lines = str(pipe.status()).splitlines()

    assert lines[:3] == [
        "otel_pipeline: test in local (given as argument)",
        "  export       memory",
        "  providers    traces, metrics and logs: the test's",
    ]
    (found,) = [line for line in lines if "scikit-learn" in line]
    assert found.startswith("  skipped      scikit-learn")
    assert found.endswith(": switched off by configuration")


def test_one_line_says_where_telemetry_goes(telemetry, capsys, caplog):
    """On stderr where a person looks, elsewhere as a log record; nothing on stdout, ever."""
    caplog.set_level("INFO", "otel_pipeline")
    telemetry.instrument("scorer", environment="local").uninstrument()
    local = capsys.readouterr()
    assert (local.out, local.err, caplog.messages) == ("", "otel_pipeline: test (local) -> memory\n", [])

    telemetry.instrument("scorer", environment="staging")
    staging = capsys.readouterr()
    assert (staging.out, staging.err) == ("", "")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "otel_pipeline: test (staging) -> memory")
    ]


def test_one_line_in_a_notebook(telemetry, capsys, monkeypatch):
    """Whatever the environment is called: what a cell writes to stderr stands below it."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    telemetry.instrument("scorer", environment="staging")

    assert capsys.readouterr().err == "otel_pipeline: test (staging) -> memory\n"


def test_only_the_named_libraries(telemetry):
    """By the name of the library or of its package."""
    pipe = telemetry.instrument(libraries=["kafka"])
    states = {adapter.name: adapter.state for adapter in pipe.status().adapters}

    assert (states["kafka-python"] in ("instrumented", "waiting"), states["scikit-learn"]) == (True, "skipped")


def test_what_was_polled_before_it_was_switched_off_is_not_in_hand_afterwards(telemetry):
    """A call of the next pipeline does not rest on it."""
    pipe = telemetry.instrument()
    batch_in_hand.set(Batch())
    pipe.uninstrument()

    assert batch_in_hand.get() is None


def test_what_is_to_be_collected_is_ready_for_it(telemetry, monkeypatch):
    """A reader may collect while `instrument()` is still at work."""
    define, failed, read_early = Totals.gauge, [], []

    def gauge(self, name, unit, description, read):
        read_early.append(name)
        try:
            list(read())
        except Exception as error:
            failed.append((name, repr(error)))
        return define(self, name, unit, description, read)

    monkeypatch.setattr(Totals, "gauge", gauge)
    telemetry.instrument()

    assert (failed, "otel_pipeline.health.light" in read_early) == ([], True)
