"""Where telemetry goes: the table of environments, and what the variables say."""

from __future__ import annotations

import pytest

from otel_pipeline.config.environment import Surroundings
from otel_pipeline.config.loading import load
from otel_pipeline.export.destination import decide, is_loopback
from otel_pipeline.export.settings import ExportSettings

GIVEN = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
SIGNAL = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:4318/v1/traces"}
CASES = {
    "local, nobody listens": ("local", {}, {}, False, "OTLP JSON lines"),
    "local, a collector listens": ("local", {}, {}, True, "OTLP http/protobuf to http://localhost:4318"),
    "local, given": ("local", GIVEN, {}, False, "OTLP http/protobuf to http://collector:4318"),
    "test, nobody listens": ("test", {}, {}, True, "OTLP JSON lines"),
    "test, given": ("test", GIVEN, {}, False, "OTLP http/protobuf to http://collector:4318"),
    "staging": ("staging", {}, {}, False, "OTLP http/protobuf to http://localhost:4318"),
    "production, given": ("production", GIVEN, {}, False, "OTLP http/protobuf to http://collector:4318"),
    "unknown": (None, {}, {}, False, "OTLP http/protobuf to http://localhost:4318"),
    "one signal's own": ("production", SIGNAL, {}, False, "OTLP http/protobuf to http://traces:4318/v1/traces"),
    "an argument": ("local", GIVEN, {"endpoint": "http://x:1"}, False, "OTLP http/protobuf to http://x:1"),
    "gRPC": (
        "production",
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {},
        False,
        "OTLP grpc to http://localhost:4317",
    ),
    "none": ("production", {"OTEL_TRACES_EXPORTER": "none"}, {}, False, "nothing"),
    "two": (
        "local",
        {"OTEL_TRACES_EXPORTER": "console, otlp"},
        {},
        False,
        "console, OTLP http/protobuf to http://localhost:4318",
    ),
}


def decided(environment, environ, arguments, listening):
    around = Surroundings(environ, frozenset(), False, lambda _path: False)
    given = {"environment": environment} if environment else {}
    config = load({**given, **arguments}, (ExportSettings,), environ=environ, around=around, raises=False)
    return decide("traces", config, environ, lambda _endpoint: listening)


@pytest.mark.parametrize("case", CASES)
def test_the_table(case):
    """Environment, variables, arguments, whether a collector listens on this machine."""
    environment, environ, arguments, listening, expected = CASES[case]

    assert str(decided(environment, environ, arguments, listening)) == expected


def test_an_arguments_endpoint_gets_the_signals_path():
    """What the variables say is left to the exporter itself."""
    assert decided("production", {}, {"endpoint": "http://x:1/"}, False).given == "http://x:1/v1/traces"
    assert decided("production", GIVEN, {}, False).given is None


def test_lines_catch_what_is_refused_near_the_developer_only():
    """In `local` and `test`; elsewhere the exporter retries."""
    near = [decided(environment, GIVEN, {}, False).lines_when_refused for environment in ("local", "test", "staging")]

    assert near == [True, True, False]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:4318", True),
        ("http://localhost", True),
        ("localhost:4317", True),
        ("http://[::1]:4318", True),
        ("http://collector:4318", False),
        ("http://127.example.org", False),
    ],
)
def test_loopback(endpoint, expected):
    """What never goes through a proxy."""
    assert is_loopback(endpoint) is expected
