"""`otel-pipeline config`: values and sources, another environment, what differs, mistakes."""

from __future__ import annotations

import json

import pytest

from otel_pipeline.cli.main import main

FILE = "sample_rate: 0.5\nenvironments:\n  production: {sample_rate: 0.1, receive_spans: false}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "otel_pipeline.yaml").write_text(FILE)
    return tmp_path


def test_every_option_with_value_and_source(folder, capsys):
    """One line each."""
    code = main(["config", "--environment", "production"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}

    assert code == 0
    assert lines["sample_rate"].split() == ["sample_rate", "0.1", "file:", f"{folder}/otel_pipeline.yaml:3"]
    assert lines["process.parent"].split() == ["process.parent", "message", "default"]


def test_what_differs_between_two_environments(folder, capsys):
    """The defaults of the environments as well."""
    main(["config", "--diff", "local", "production", "--json"])

    assert json.loads(capsys.readouterr().out) == {
        "sample_rate": {"local": "0.5", "production": "0.1"},
        "receive_spans": {"local": "true", "production": "false"},
        "capture.message_key": {"local": "true", "production": "false"},
        "capture.exception_text": {"local": "true", "production": "false"},
        "health.lost_after": {"local": "5s", "production": "150s"},
        "export.spool": {"local": "64MB", "production": "256MB"},
        "foreign_sampling.max_traces_per_second": {"local": "unlimited", "production": "1"},
    }


def test_named_things_with_value_and_source(folder, capsys):
    """Each option of each, in the file's order; the defaults of "*" and of objectives; what is empty."""
    (folder / "otel_pipeline.yaml").write_text(
        "destinations:\n"
        "  orders: {foreign: {local: allow}, expect_every: 300s}\n"
        "objectives:\n"
        "  fresh: {model: churn-v3, threshold: 2s, objective: 0.99}\n"
        "environments:\n"
        "  staging: {objectives: {fresh: {threshold: 10s}}}\n"
    )
    main(["config", "--environment", "staging", "--json"])
    found = json.loads(capsys.readouterr().out)

    file = f"file: {folder}/otel_pipeline.yaml"
    named = {path: (row["value"], row["source"]) for path, row in found.items() if path.startswith(("de", "mi", "ob"))}
    assert list(named.items()) == [
        ("destinations.orders.foreign.local", ("allow", f"{file}:2")),
        ("destinations.orders.expect_every", (300.0, f"{file}:2")),
        ("destinations.*.trust", ("all", "default")),
        ("destinations.*.contract", ("learn", "default")),
        ("destinations.*.fields", ([], "default")),
        ("destinations.*.null_rate", ([], "default")),
        ("destinations.*.foreign.*", ("flag", "default")),
        ("destinations.*.ordered", (False, "default")),
        ("destinations.*.origin", ("unknown", "default")),
        ("destinations.*.event_age", (False, "default")),
        ("destinations.*.process_wait", (False, "default")),
        ("destinations.*.same_key", (False, "default")),
        ("mirrors", ({}, "default")),
        ("objectives.fresh.model", ("churn-v3", f"{file}:4")),
        ("objectives.fresh.threshold", (10.0, f"{file}:6")),
        ("objectives.fresh.objective", (0.99, f"{file}:4")),
        ("objectives.fresh.age", ("data", "default")),
    ]


def test_values_are_written_as_in_the_file(folder, capsys):
    """Durations with the largest unit that divides them, also where environments differ by a named thing."""
    (folder / "otel_pipeline.yaml").write_text(
        "environments:\n"
        "  local: {objectives: {fresh: {model: m, threshold: 0.25s, objective: 0.990, age: event}}}\n"
        "  test: {mirrors: {copy: orders}}\n"
    )
    main(["config", "--diff", "local", "test"])

    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["local", "test"],
        ["strict", "false", "true"],
        ["objectives.fresh.model", "m", "-"],
        ["objectives.fresh.age", "event", "-"],
        ["objectives.fresh.threshold", "250ms", "-"],
        ["objectives.fresh.objective", "0.99", "-"],
        ["mirrors.copy", "-", "orders"],
    ]


def test_check(folder, capsys):
    """0 without a mistake, 1 with one, which is named with file and line."""
    good = main(["config", "check"])
    (folder / "otel_pipeline.yaml").write_text("sample_rate: 7\n")
    bad = main(["config", "check"])

    assert (good, bad) == (0, 1)
    assert capsys.readouterr().err == "otel_pipeline.yaml:1: sample_rate is 7; give a number from 0 to 1\n"


def test_the_schema_describes_every_option(capsys):
    """For editors."""
    main(["config", "--schema"])
    schema = json.loads(capsys.readouterr().out)

    assert schema["properties"]["process"]["properties"]["parent"]["enum"] == ["message", "ambient", "link"]
    override = schema["properties"]["environments"]["additionalProperties"]["properties"]
    assert "environment" not in override
    whole, part = (each["objectives"]["additionalProperties"] for each in (schema["properties"], override))
    assert (whole["required"], part.get("required")) == (["threshold", "objective"], None)
    assert schema["properties"]["destinations"]["additionalProperties"]["properties"]["foreign"] == {
        "type": "object",
        "description": 'What is done with messages that began in this environment; "*" is any other.',
        "additionalProperties": {"enum": ["allow", "flag", "reject"]},
    }


def test_a_file_that_is_not_read_is_said_by_the_check(folder, capsys):
    """Not that there is none."""
    (folder / "otel_pipeline.yaml").chmod(0o666)
    code = main(["config", "check"])
    err = capsys.readouterr().err

    assert (code, "everybody may write it; if it is meant, set OTEL_PIPELINE_CONFIG_FILE to it" in err) == (2, True)
