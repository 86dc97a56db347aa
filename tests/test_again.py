"""A second `instrument()`: the same handle; what it asks for is applied where that can be, and named where it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

import otel_pipeline
from otel_pipeline import registry
from otel_pipeline.again import APPLIED
from otel_pipeline.owners import own_settings
from otel_pipeline.settings import options


def states(pipe):
    """Of all libraries but the example's, which is there where this worker has run some of the contract tests."""
    found = {adapter.name: adapter.state for adapter in pipe.status().adapters if adapter.state != "unsupported"}
    found.pop("in-memory-broker", None)
    return found


def test_without_arguments_or_with_the_same_ones(telemetry):
    """As a notebook cell that is run twice: nothing is said."""
    hooks = {"send": print}
    first = telemetry.instrument("a", sample_rate=0.5, disable=["sklearn"], hooks=hooks)
    again = [
        telemetry.instrument(None),
        telemetry.instrument("a", sample_rate=0.5, disable=["sklearn"], hooks=dict(hooks)),
        telemetry.instrument(None, libraries="auto", disable=[]),
    ]

    assert all(pipe is first for pipe in again)
    assert first.status().problems == ()


def test_what_is_fixed_is_named_once(telemetry):
    """With what holds, and what to do."""
    pipe = telemetry.instrument("a", environment="staging")
    for _ in range(2):
        telemetry.instrument(
            "b", environment="production", sample_rate=0.1, endpoint="http://user:secret@collector:4318"
        )

    assert pipe.status().problems == (
        (
            "a second instrument() asks for environment 'production', 'staging' holds: that is fixed since the first; give "
            "it to the first call, or set OTEL_PIPELINE_ENVIRONMENT"
        ),
        (
            "a second instrument() asks for service_name 'b', 'a' holds: that is fixed since the first; give it to the first "
            "call, or set OTEL_SERVICE_NAME"
        ),
        (
            "a second instrument() asks for sample_rate 0.1: that is fixed since the first; give it to the first call, or set "
            "OTEL_TRACES_SAMPLER"
        ),
        (
            "a second instrument() asks for endpoint: that is fixed since the first; give it to the first call, or set "
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        ),
    )
    assert (pipe.status().service_name, pipe.status().environment) == ("test", "staging")


def test_another_file(telemetry, tmp_path):
    """It is not read: what it says is fixed."""
    (tmp_path / "one.yaml").write_text("")
    (tmp_path / "two.yaml").write_text("sample_rate: 0.1")
    pipe = telemetry.instrument(config_file=tmp_path / "one.yaml")
    telemetry.instrument(config_file=tmp_path / "two.yaml")

    assert pipe.status().problems == (
        "a second instrument() asks for config_file: that is fixed since the first; give it to the first call",
    )


def test_more_libraries(telemetry):
    """Both lists hold."""
    pipe = telemetry.instrument(libraries=["kafka"])
    before = states(pipe)
    telemetry.instrument(libraries=["sklearn", "aiokafka", "confluent_kafka", "faststream", "faust"])

    assert (before["scikit-learn"], before["aiokafka"]) == ("skipped", "skipped")
    # faust is not in the matrix, and may not be installed; other models were not asked for.
    models = {adapter.name for adapter in registry.ADAPTERS if adapter.kind == "model"} - {"scikit-learn"}
    assert {name for name, state in states(pipe).items() if state == "skipped"} <= {"faust-streaming"} | models
    assert pipe.status().problems == ()


def test_one_that_lacks_something_is_named_later(telemetry, monkeypatch):
    """Under `auto` it is left alone; whoever names it gets it, and the others stay."""
    rows = tuple(replace(row, missing="much" if row.name == "aiokafka" else "") for row in registry.ADAPTERS)
    monkeypatch.setattr(registry, "ADAPTERS", rows)
    pipe = telemetry.instrument()
    before = states(pipe)
    telemetry.instrument(libraries=["aiokafka"])

    assert before["aiokafka"] == "skipped"
    assert states(pipe)["aiokafka"] != "skipped"
    assert states(pipe)["kafka-python"] == before["kafka-python"]


def test_what_is_disabled_later(telemetry, monkeypatch):
    """What waits for its import is left alone; what is instrumented stays so, and that is said."""
    import kafka  # noqa: F401 - instrumented at once

    pipe = telemetry.instrument(libraries=["kafka", "sklearn"])
    waiting = states(pipe)["scikit-learn"] == "waiting"
    telemetry.instrument(disable=["kafka-python", "sklearn", "threading"])

    assert states(pipe)["kafka-python"] == "instrumented"
    assert states(pipe)["scikit-learn"] == ("skipped" if waiting else "instrumented")
    late = ["kafka-python", *(() if waiting else ("scikit-learn",)), "threading"]
    assert pipe.status().problems == tuple(
        f"`disable` names {name} in a second instrument(): it is instrumented already, and stays so" for name in late
    )


def test_hooks_and_event_time(telemetry):
    """They hold from then on, for clients that are there already as well."""
    telemetry.instrument()
    seen = []
    headers = otel_pipeline.inject(destination="orders")

    def work():
        with otel_pipeline.extract(headers, destination="orders"), otel_pipeline.inference("churn"):
            pass

    work()
    pipe = telemetry.instrument(
        hooks={
            "process": lambda span, _message: seen.append(span.name),
            "inference": lambda _span, call: seen.append(call),
        },
        event_time=lambda _message: None,
    )
    work()

    assert (seen[0], seen[1].model, len(seen)) == ("process orders", "churn", 2)
    assert pipe._monitoring.flows.settings.event_time is not None
    assert pipe.status().problems == ()


def test_bad_values_are_said_or_raised(telemetry):
    """As in a first call, by this call's `strict`; nothing of it is applied then."""
    pipe = telemetry.instrument(strict=False)
    telemetry.instrument(libraries=["kafka-pyton"], strict=False)
    with pytest.raises(otel_pipeline.ConfigError):
        telemetry.instrument(libraries=["sklaern"], strict=True)

    assert pipe.status().problems == (
        "argument of instrument(): libraries names 'kafka-pyton', which is no library; did you mean kafka-python?",
    )


def test_every_argument_is_either():
    """Whoever adds one says which: here it is fixed, unless `again.APPLIED` has it."""
    arguments = {option.argument for owner in own_settings() for _, option in options(owner) if option.argument}

    assert arguments - APPLIED == {"endpoint", "sample_rate", "service_name", "service_version"}
