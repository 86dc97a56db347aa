"""confluent-kafka and a host that forks its workers, as celery does: a producer is made in the worker."""

from __future__ import annotations

import json
import os

import pytest

pytest.importorskip("confluent_kafka")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

FORKS = """
import json, os
import otel_pipeline
pipe = otel_pipeline.instrument("app")
from confluent_kafka import Producer
SETTINGS = {{"bootstrap.servers": os.environ["BROKER"], "linger.ms": 0, "log_level": 0}}
producer = Producer(SETTINGS) if {before} else None
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    if producer is None:
        producer = Producer(SETTINGS)
    told = []
    producer.produce("orders", b"a", on_delivery=lambda error, message: told.append(message.offset()))
    left = producer.flush({patience})
    pipe.flush(20)
    os.write(writer, json.dumps([len(told), left, len(producer), dict(pipe.status().errors)]).encode())
    os._exit(0)
os.waitpid(child, 0)
print(os.read(reader, 1000).decode())
"""


@pytest.mark.parametrize(
    ("before", "patience", "said", "spans"),
    [(False, 20, [1, 0, 0, {}], ["produce orders"]), (True, 0.2, [0, 1, 1, {}], [])],
    ids=["made in the worker", "made before the fork"],
)
def test_a_producer_of_a_forked_worker(programs, broker, before, patience, said, spans):
    """Made there it sends. The client's own threads do not reach a child: what was made before sends nothing."""
    ran = programs.run(FORKS.format(before=before, patience=patience), BROKER=broker)

    assert (ran.code, json.loads(ran.out.splitlines()[-1]), ran.names()) == (0, said, spans)
