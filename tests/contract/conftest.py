"""Every test of this folder runs with every driver; those that take `anywhere` on the real broker too."""

from __future__ import annotations

import importlib
import itertools
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach

from otel_pipeline.brokers.embedded import API_VERSION, embedded_broker
from tests.contract.names import DRIVERS, KAFKA

_EXAMPLE = Path(__file__).parents[2] / "examples" / "in_memory_broker"
_numbers = itertools.count(1)
_RUN = time.time_ns() // 1_000_000 % 1_000_000


@dataclass
class Broker:
    """Where a driver's clients connect to."""

    address: str
    kafka_python: dict = field(default_factory=dict)
    """What this broker needs of kafka-python's settings."""

    def topic(self, name):
        return f"{name}-{_RUN}-{next(_numbers)}"

    def group(self):
        return f"group-{next(_numbers)}"


@pytest.fixture(scope="session")
def embedded():
    pytest.importorskip("confluent_kafka")
    with embedded_broker() as address:
        yield address


@pytest.fixture(scope="session", autouse=True)
def in_memory_broker_is_installed(tmp_path_factory):
    """As pip would have it: two modules, and the entry point of the example's pyproject.toml."""
    folder = tmp_path_factory.mktemp("site-packages") / "in_memory_broker-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: in-memory-broker\nVersion: 1.0\n")
    points = (
        (_EXAMPLE / "pyproject.toml").read_text("utf-8").partition("[project.entry-points.otel_pipeline_adapter]")[2]
    )
    (folder / "entry_points.txt").write_text("[otel_pipeline_adapter]\n" + points.replace('"', ""))
    sys.path[:0] = added = [str(folder.parent), str(_EXAMPLE)]
    yield
    for path in added:
        sys.path.remove(path)


def driver_of(request, name, where):
    """Make a driver; whoever asks closes it."""
    module, _, kind = name.partition(":")
    if module in {"aiokafka", "confluent_kafka"}:
        pytest.importorskip(module)
    made = getattr(importlib.import_module(f"tests.contract.drivers.{module}"), kind)
    if module == "in_memory":
        return made(Broker(""))
    if where == "real":
        return made(Broker(request.getfixturevalue("real_broker").bootstrap))
    return made(Broker(request.getfixturevalue("embedded"), {"api_version": API_VERSION}))


def _named(names):
    return [pytest.param((name, "embedded"), id=name.partition(":")[2]) for name in names]


@pytest.fixture(params=_named(DRIVERS))
def driver(request):
    found = driver_of(request, *request.param)
    yield found
    found.close()


@pytest.fixture(
    params=[
        *_named(DRIVERS),
        *(pytest.param((name, "real"), id=f"{name.partition(':')[2]}-real", marks=pytest.mark.real) for name in KAFKA),
    ]
)
def anywhere(request):
    """A driver as `driver`, and on the real broker where there is one."""
    found = driver_of(request, *request.param)
    yield found
    found.close()


@pytest.fixture
def instrument(telemetry, request):
    """`telemetry.instrument()` for the driver's library alone, with spans made as in production."""
    telemetry.as_in_production()
    driver = request.getfixturevalue("driver" if "driver" in request.fixturenames else "anywhere")
    instrument_all = telemetry.instrument

    def instrumented(**arguments):
        return instrument_all(libraries=[driver.library], **arguments)

    return instrumented


@pytest.fixture
def configured(instrument, tmp_path):
    """`instrument()` with this text as configuration file."""

    def instrumented(text, **arguments):
        file = tmp_path / "otel_pipeline.yaml"
        file.write_text(text)
        return instrument(config_file=file, **arguments)

    return instrumented


@pytest.fixture(autouse=True)
def own_context():
    """What one test leaves current by mistake is not the next one's."""
    yield
    attach(Context())


def current():
    """The name of the current span; None without one."""
    span = trace.get_current_span()
    return getattr(span, "name", None) if span.is_recording() else None
