"""Where telemetry goes: the table of environments, and what the variables say."""

from __future__ import annotations

import pytest

from otel_pipeline.config.environment import Surroundings
from otel_pipeline.config.loading import load
from otel_pipeline.export.destination import decide, is_loopback, left_to_others
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


def decided(environment, environ, arguments, listening, **around):
    around = Surroundings(
        environ, frozenset(around.pop("modules", ())), False, lambda path: path == "/.dockerenv", **around
    )
    given = {"environment": environment} if environment else {}
    config = load({**given, **arguments}, (ExportSettings,), environ=environ, around=around, raises=False)
    return decide("traces", config, environ, lambda _endpoint: listening)


@pytest.mark.parametrize("case", CASES)
def test_the_table(case):
    """Environment, variables, arguments, whether a collector listens on this machine."""
    environment, environ, arguments, listening, expected = CASES[case]

    assert str(decided(environment, environ, arguments, listening)) == expected


REASONS = {
    "local, nobody listens": (
        ("local", {}, {}, False),
        "no endpoint was given, and nobody listens at http://localhost:4318; `otel-pipeline show` reads them",
    ),
    "local, a collector listens": (("local", {}, {}, True), "no endpoint was given, and a Collector listens there"),
    "test": (("test", {}, {}, True), "no endpoint was given, in `test`"),
    "staging": (("staging", {}, {}, True), "no endpoint was given: OpenTelemetry's default"),
    "a variable": (("local", GIVEN, {}, False), "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "one signal's own": (("production", {**GIVEN, **SIGNAL}, {}, False), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    "an argument": (("local", GIVEN, {"endpoint": "http://x:1"}, False), "given as argument"),
    "none": (("production", {"OTEL_TRACES_EXPORTER": "none", **GIVEN}, {}, False), "OTEL_TRACES_EXPORTER"),
    "otlp by name": (("production", {"OTEL_TRACES_EXPORTER": "otlp"}, {}, False), "OTEL_TRACES_EXPORTER"),
}


@pytest.mark.parametrize("case", REASONS)
def test_why_there(case):
    """As the one line says it."""
    arguments, expected = REASONS[case]

    assert decided(*arguments).reason == expected


KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
PERSONS = {
    "nobody": ({}, {}, False, "OTLP http/protobuf to http://localhost:4318"),
    "a terminal": ({"terminal": True}, {}, False, "OTLP JSON lines"),
    "a terminal, and somebody listens": ({"terminal": True}, {}, True, "OTLP http/protobuf to http://localhost:4318"),
    "a terminal, and an endpoint": ({"terminal": True}, GIVEN, False, "OTLP http/protobuf to http://collector:4318"),
    "a notebook kernel": ({"modules": ["ipykernel"]}, {}, False, "OTLP JSON lines"),
    "a notebook kernel in a cluster": ({"modules": ["ipykernel"]}, KUBERNETES, False, "OTLP JSON lines"),
    "a pod with a terminal": ({"terminal": True}, KUBERNETES, False, "OTLP http/protobuf to http://localhost:4318"),
}


@pytest.mark.parametrize("case", PERSONS)
def test_a_person_at_a_process_of_an_unknown_environment(case):
    """A container without a label, whatever stderr is: nobody waits there for a collector that was never meant."""
    around, environ, listening, expected = PERSONS[case]
    found = decided(None, environ, {}, listening, **around)

    assert (str(found), found.lines_when_refused) == (expected, listening and expected != "OTLP JSON lines")


def test_a_person_at_a_process_that_says_what_it_is():
    """A labelled environment is what it says."""
    assert str(decided("staging", {}, {}, False, terminal=True)) == "OTLP http/protobuf to http://localhost:4318"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "nothing"),
        (GIVEN, "OTLP http/protobuf to http://collector:4318"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTLP http/protobuf to http://localhost:4318"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
    ],
)
@pytest.mark.parametrize("environment", ["local", "test", "production"])
def test_beside_providers_of_the_applications_own(environment, environ, expected):
    """No exporter that nobody asked for."""
    found = left_to_others(decided(environment, environ, {}, False))

    assert str(found) == expected
    assert expected != "nothing" or found.reason == (
        "the application has providers of its own, and no endpoint was given"
    )


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
