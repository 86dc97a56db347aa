"""An outage of the Collector, from without: what arrived is what the program says has arrived, and the rest is counted."""

from __future__ import annotations

import pytest

from tests.export.fault_collector import FaultCollector

APP = """
import logging, sys, time, urllib.request
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s", filename="app.log")
import otel_pipeline
pipe = otel_pipeline.instrument("app")
log = logging.getLogger("application")

def work(count):
    for number in range(count):
        with otel_pipeline.inference("model"):
            pass
        if number % 20 == 0:
            log.info("record %d", number)

work(500)
pipe.flush()
for mode in {modes}:
    open("mode", "w").write(mode)  # The test's Collector follows.
    while open("mode").read() == mode:
        time.sleep(0.01)
    work(1500)
    pipe.flush(1)
pipe.shutdown(30)
for each in pipe.status().exports:
    print(each.signal, each.exported, each.queued, sum(each.dropped.values()), *sorted(each.dropped))
"""


@pytest.fixture
def collector():
    made = FaultCollector()
    yield made
    made.end()


def followed(programs, collector, modes, **environ):
    """Run the program with a Collector that is in the mode that it asks for."""
    import threading

    file, over = programs.folder / "mode", threading.Event()
    file.write_text("")

    def follow():
        while not over.wait(0.01):
            asked = file.read_text()
            if asked and asked != "done":
                collector.mode = asked
                file.write_text("done")

    following = threading.Thread(target=follow)
    following.start()
    try:
        return programs.run(
            APP.format(modes=modes),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_PIPELINE_ENVIRONMENT="staging",
            OTEL_BSP_MAX_QUEUE_SIZE="200",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="100",
            **environ,
        )
    finally:
        over.set()
        following.join()


@pytest.mark.parametrize("fault", ["status:400", "status:503", "reset"])
def test_all_of_an_outage_is_accounted_for(programs, collector, fault):
    """Spans and log records, to the last one; a line when it begins and one when it ends."""
    ran = followed(programs, collector, [fault, "ok"])

    found = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines()}
    exported, queued, dropped, *_ = found["traces"]
    assert (int(exported), int(queued)) == (len(collector.spans), 0), ran.err
    assert int(exported) + int(dropped) == 500 + 2 * 1500
    assert int(dropped) > 1000
    assert found["logs"][0] == str(len(collector.bodies))
    assert found["metrics"][0] == str(collector.points)
    logged = (programs.folder / "app.log").read_text().splitlines()
    # But where telemetry goes, which is said at the start.
    said = [line for line in logged if not line.startswith("application") and " -> OTLP " not in line]
    assert [line.split(" at ")[0] for line in said] == [
        said[0].split(" at ")[0],
        "otel_pipeline otel_pipeline: telemetry arrives",
    ]
    assert " do not arrive at " in said[0]
