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
    }


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
    assert "environment" not in schema["properties"]["environments"]["additionalProperties"]["properties"]
