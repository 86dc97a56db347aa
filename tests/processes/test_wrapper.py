"""`opentelemetry-instrument` gives the same as the line, alone, together with it, and beside others."""

from __future__ import annotations

import inspect

import pytest
from opentelemetry.instrumentation import auto_instrumentation

APP = """
import os
{line}
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
options = dict(bootstrap_servers=os.environ["BROKER"], api_version=(2, 3))
producer = KafkaProducer(**options)
producer.send("orders", b"a", partition=0).get(10)
consumer = KafkaConsumer(auto_offset_reset="earliest", consumer_timeout_ms=5000, **options)
consumer.assign([TopicPartition("orders", 0)])
for record in consumer:
    producer.send("next", record.value, partition=0).get(10)
    break
consumer.close()
producer.close()
"""
LINE = "import otel_pipeline; otel_pipeline.instrument('app')"
EXPECTED = ["poll orders", "process orders", "send next", "send orders"]


@pytest.mark.parametrize(
    ("wrapper", "line"), [(False, LINE), (True, ""), (True, LINE)], ids=["line", "wrapper", "wrapper and line"]
)
def test_the_same_spans_each_way(programs, broker, wrapper, line):
    """One span an operation, one trace, nothing on stdout."""
    ran = programs.run(APP.format(line=line), wrapper=wrapper, BROKER=broker, OTEL_PYTHON_DISTRO="otel_pipeline")

    assert (ran.code, ran.out, ran.names()) == (0, "", EXPECTED), ran.err
    assert len({span.trace_id for span in ran.spans() if span.kind != "CLIENT"}) == 1


def test_beside_opentelemetry_distro_and_contribs_kafka(programs, broker):
    """Another distro sets the providers; ours adds the spans, and contrib's are not there a second time."""
    ran = programs.run(
        APP.format(line=""),
        wrapper=True,
        BROKER=broker,
        OTEL_PYTHON_DISTRO="distro",
        OTEL_PYTHON_CONFIGURATOR="configurator",
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )

    names = sorted(line.split('"')[3] for line in ran.out.splitlines() if line.startswith('    "name":'))
    assert (ran.code, names) == (0, EXPECTED), ran.err
    # Once for each client; not at all where contrib does not support its version.
    said = [line for line in ran.err.splitlines() if "taken off" in line]
    assert len(said) == len({line.split(" had instrumented ")[0] for line in said}) <= 3


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "kafka-python, kafka"},
    ],
)
@pytest.mark.parametrize("wrapper", [True, False])
def test_safety_switches(programs, broker, variables, wrapper):
    """What is switched off is off, with the line as well."""
    line = "" if wrapper else LINE
    ran = programs.run(
        APP.format(line=line), wrapper=wrapper, BROKER=broker, OTEL_PYTHON_DISTRO="otel_pipeline", **variables
    )

    assert (ran.code, ran.names()) == (0, []), ran.err


def test_imported_before_or_after(programs, broker):
    """The line works after the client was imported, and after its objects were made."""
    source = APP.format(line="").replace('producer.send("orders"', LINE + '\nproducer.send("orders"', 1)
    ran = programs.run(source, BROKER=broker)

    assert (ran.code, ran.names()) == (0, EXPECTED), ran.err


CHILDREN = """
import multiprocessing, sys
{line}

def work(number):
    import otel_pipeline
    with otel_pipeline.inference(f"model-{{number}}"):
        pass

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    with context.Pool(2) as pool:
        pool.map(work, [7, 8])
        pool.close()
        pool.join()
    work(9)
    sys.exit(max(child.exitcode for child in children))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("wrapper", [True, False])
def test_children_hand_over_their_spans(programs, method, wrapper):
    """Children of multiprocessing leave by `os._exit`; their spans are there all the same."""
    if wrapper and method != "fork" and "path_was_present" not in inspect.getsource(auto_instrumentation):
        pytest.skip("this opentelemetry-instrument does not reach children that are new processes")
    line = "" if wrapper else LINE
    ran = programs.run(
        CHILDREN.format(line=line, method=method), wrapper=wrapper, OTEL_PYTHON_DISTRO="otel_pipeline", timeout=90
    )

    assert (ran.code, ran.names()) == (0, [f"predict model-{number}" for number in (0, 1, 2, 7, 8, 9)]), ran.err


STARTS = """
import subprocess, sys
for code in ("print(6 * 7)", "import sys; sys.exit(3)"):
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    # The wrapper's own line, where several distributions have a configurator.
    said = [line for line in ran.stderr.splitlines() if not line.startswith("Configuration of ")]
    print([ran.stdout, said, ran.returncode])
"""


@pytest.mark.parametrize("environment", ["local", "production"])
def test_what_other_programs_write_is_theirs(programs, environment):
    """They are instrumented as well, with a collector that is dead; who has started them reads what they write."""
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_PIPELINE_ENVIRONMENT": environment}
    ran = programs.run(STARTS, wrapper=True, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="logging,threading", **where)

    assert ran.out.splitlines() == ["['42\\n', [], 0]", "['', [], 3]"], ran.err
    assert ("-> OTLP" in ran.err) is (environment == "local")
