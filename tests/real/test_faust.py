"""faust-streaming on a real broker: its agents are one trace. `pip install faust-streaming==0.15.3 aiokafka` brings it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import pytest

pytest.importorskip("faust")
pytest.importorskip("confluent_kafka")
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = [pytest.mark.real, pytest.mark.broker]

PROGRAM = """
import asyncio, json, os, sys, time
import otel_pipeline
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

pipe = otel_pipeline.instrument("agents", environment="test", libraries=["aiokafka", "faust"])
import faust

ended = []


class Ended(SpanProcessor):
    def on_end(self, span):
        ended.append(span)


trace.get_tracer_provider().add_span_processor(Ended())
address, source, target, folder = sys.argv[1:5]
app = faust.App(
    source, broker=f"kafka://{address}", store="memory://", topic_partitions=1, datadir=folder, web_enabled=False,
    worker_redirect_stdouts=False, consumer_auto_offset_reset="earliest",
)
orders, scored = (app.topic(name, value_type=bytes, value_serializer="raw") for name in (source, target))
got = []


@app.agent(orders)
async def score(stream):
    async for value in stream:
        await scored.send(value=value)


@app.agent(scored)
async def collect(stream):
    async for value in stream:
        got.append(value.decode())


@app.task
async def feed():
    for number in range(3):
        await orders.send(value=b"%d" % number)
    deadline = time.monotonic() + 60
    while len(got) < 3 and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    by_id = {span.context.span_id: span.name for span in ended}
    chains = [(span.name, by_id.get(span.parent.span_id) if span.parent else None) for span in ended if span.kind.name != "CLIENT"]
    print(json.dumps([sorted(got), chains, dict(pipe.status().errors)]), flush=True)
    os._exit(0)


faust.Worker(app, loglevel="CRITICAL").execute_from_commandline()
"""


def test_its_agents_are_one_trace(real_broker, tmp_path):
    """Each message that the agent sends is the child of the one that it has in hand."""
    source, target = (f"{name}-faust-{uuid.uuid4().hex[:8]}" for name in ("orders", "scored"))
    admin = AdminClient({"bootstrap.servers": real_broker.bootstrap})
    for future in admin.create_topics([NewTopic(name, 1, 1) for name in (source, target)]).values():
        future.result(30)
    (tmp_path / "app.py").write_text(PROGRAM)
    exporters = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    done = subprocess.run(
        [sys.executable, "app.py", real_broker.bootstrap, source, target, str(tmp_path / "data")],
        cwd=tmp_path,
        env={**os.environ, **exporters, "OTEL_PIPELINE_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("[[")]
    got, chains, errors = json.loads(said)

    assert (got, errors) == (["0", "1", "2"], {})
    assert sorted(map(tuple, chains), key=str) == sorted(
        [
            *[(f"send {source}", None)] * 3,
            *[(f"process {source}", f"send {source}")] * 3,
            *[(f"send {target}", f"process {source}")] * 3,
            *[(f"process {target}", f"send {target}")] * 3,
        ],
        key=str,
    )
