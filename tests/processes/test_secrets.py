"""Passwords and tokens leave the process in requests, and in nothing else."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from otel_pipeline.testing import Collector

APP = """
import logging
logging.basicConfig(level=logging.DEBUG)
# The client logs the address that it was given, with a traceback in some versions; such records are the application's.
logging.getLogger("kafka").propagate = False
import otel_pipeline
from kafka import KafkaProducer
pipe = otel_pipeline.instrument("app")
with otel_pipeline.inference("model"):
    logging.warning("hello")
try:
    KafkaProducer(bootstrap_servers="user:CANARY-broker@127.0.0.1:1", api_version=(2, 1), max_block_ms=200).send("t", b"")
except Exception as error:
    print(type(error).__name__)
pipe.flush()
print(pipe.status(), pipe.status().problems, otel_pipeline.health())
"""


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("environment", ["local", "production"])
def test_no_password_is_shown(programs, collector, environment, protocol):
    """Of the endpoint, of a header that is malformed and one that is not, of a broker's address."""
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:CANARY-endpoint@{collector.endpoint.removeprefix('http://')}",
        "OTEL_EXPORTER_OTLP_HEADERS": "tenant=CANARY-header,broken CANARY-broken",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_PIPELINE_ENVIRONMENT": environment,
    }
    ran = programs.run(APP, **given)
    config = [
        subprocess.run(
            [sys.executable, "-m", "otel_pipeline", "config", *more],
            capture_output=True,
            text=True,
            check=False,
            env=given,
        )
        for more in ([], ["--json"], ["--diff", "local", "production"])
    ]
    sent = b"".join(each.body for each in collector.requests)

    assert ran.code == 0, ran.err
    assert "CANARY" not in ran.out + ran.err
    assert "OTEL_EXPORTER_OTLP_HEADERS has no name=value as part 2" in ran.err
    assert "CANARY" not in "".join(each.stdout + each.stderr for each in config)
    assert b"127.0.0.1:" in config[0].stdout.encode()
    assert sent.count(b"CANARY") == 0
    if protocol != "grpc":
        headers = {(each.headers["authorization"], each.headers["tenant"]) for each in collector.requests}
        assert headers == {("Basic " + base64.b64encode(b"user:CANARY-endpoint").decode(), "CANARY-header")}
