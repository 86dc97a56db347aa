"""Fixtures that are real programs: skipped when not fetched, failed when OTEL_PIPELINE_REAL=required."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if sys.platform != "win32":
    from real import parts, servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Started = TypeVar("Started")


def _or_skip(start: Callable[[], Started]) -> Started:
    try:
        return start()
    except parts.PartMissingError as missing:
        reason = str(missing)
    if os.environ.get("OTEL_PIPELINE_REAL") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_broker() -> Iterator[servers.Broker]:
    """Give an Apache Kafka broker, or the one that `python -m real run` started."""
    running = os.environ.get("OTEL_PIPELINE_TEST_BOOTSTRAP")
    with ExitStack() as stack:
        if running:
            yield servers.Broker(running)
            return
        yield _or_skip(lambda: stack.enter_context(servers.kafka_broker()))


@pytest.fixture(scope="session")
def real_collector() -> Iterator[servers.Collector]:
    """Give a Collector with our own configuration, or the one that `python -m real run` started."""
    running = os.environ.get("OTEL_PIPELINE_TEST_COLLECTOR")
    with ExitStack() as stack:
        if running:
            over_grpc = os.environ["OTEL_PIPELINE_TEST_COLLECTOR_GRPC"]
            output = Path(os.environ["OTEL_PIPELINE_TEST_COLLECTOR_OUTPUT"])
            yield servers.Collector(running, over_grpc, output)
            return
        yield _or_skip(lambda: stack.enter_context(servers.collector()))


@pytest.fixture(scope="session")
def real_relay() -> Callable[..., None]:
    """Give `real.servers.relay`: a Java service under the Java agent that sends messages on."""
    _or_skip(parts.JAVA.required)
    return servers.relay


@pytest.fixture(scope="session")
def real_hosts() -> Path:
    """Give the folder with gunicorn, uvicorn, celery and uWSGI: packages to put on a path, and programs in `bin`."""
    return _or_skip(parts.HOSTS.required) / "libs"


@pytest.fixture(scope="session")
def real_promtool() -> Path:
    """Give Prometheus' tool that checks configurations and rules, and tests rules."""
    return _or_skip(parts.PROMTOOL.required) / "promtool"


@pytest.fixture(scope="session")
def real_collector_binary() -> Path:
    """Give the Collector's program, for its `validate`."""
    return _or_skip(parts.COLLECTOR.required) / "otelcol"
