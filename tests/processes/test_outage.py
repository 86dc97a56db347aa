"""An outage of the Collector, from without: what arrived is what the program says has arrived, and nothing is missing."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from otel_pipeline.testing import Collector
from tests.collected import bodies, fail, names, points

APP = """
import logging, sys, time
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s", filename="app.log")
import otel_pipeline
from opentelemetry import trace
pipe = otel_pipeline.instrument("app")
log = logging.getLogger("application")
tracer, number = trace.get_tracer("app"), 0

def work(count):
    global number
    for _ in range(count):
        tracer.start_span(str(number)).end()
        if number % 20 == 0:
            log.info("record %d", number)
        number += 1

def say(when):
    for each in pipe.status().exports:
        whole = each.exported + each.queued + each.spooled + sum(each.dropped.values())
        print(when, each.signal, each.started, whole - each.started, each.exported, each.spooled, dict(each.dropped))

work(500)
pipe.flush()
say("start")
for mode in {modes}:
    open("mode", "w").write(mode)  # The test's Collector follows.
    while open("mode").read() == mode:
        time.sleep(0.01)
    work(1500)
    pipe.flush({patience})
    say(mode)
pipe.shutdown(30)
say("end")
"""


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


def followed(programs, collector, modes, patience=1, **environ):
    """Run the program with a Collector that is in the mode that it asks for; what it says, by moment and signal."""
    file, over = programs.folder / "mode", threading.Event()
    file.write_text("")

    def follow():
        while not over.wait(0.01):
            asked = file.read_text()
            if asked and asked != "done":
                fail(collector, asked)
                file.write_text("done")

    following = threading.Thread(target=follow)
    following.start()
    try:
        ran = programs.run(
            APP.format(modes=modes, patience=patience),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_PIPELINE_ENVIRONMENT="staging",
            **environ,
        )
    finally:
        over.set()
        following.join()
    said = {}
    for line in ran.out.splitlines():
        when, signal, started, wrong, exported, spooled, dropped = line.split(" ", 6)
        assert wrong == "0", ran.out
        said[when, signal] = int(started), int(exported), int(spooled), dropped
    return ran, said


def lines_of(programs):
    """What was logged, but for the application's own and where telemetry goes."""
    logged = (programs.folder / "app.log").read_text().splitlines()
    return [line for line in logged if not line.startswith("application") and " -> OTLP " not in line]


@pytest.mark.parametrize("fault", ["503", "429:1", "reset", "close", "hang"])
def test_nothing_of_an_outage_is_lost(programs, collector, fault):
    """Spans and log records, to the last one, each once; the account is right at every change; two lines are logged."""
    ran, said = followed(programs, collector, [fault, "ok"], patience=1 if fault != "hang" else 12)

    assert said["start", "traces"] == (500, 500, 0, "{}"), ran.err
    assert said[fault, "traces"][2] > 0
    assert said["end", "traces"] == (3500, 3500, 0, "{}"), ran.err
    assert Counter(names(collector)) == Counter(map(str, range(3500)))
    assert Counter(bodies(collector)) == Counter(f"record {number}" for number in range(0, 3500, 20))
    assert said["end", "logs"] == (175, 175, 0, "{}")
    assert said["end", "metrics"][1:] == (points(collector), 0, "{}")
    begins, ends = lines_of(programs)
    assert " do not arrive at " in begins and "they are kept in " in begins  # noqa: PT018
    assert " again; nothing was lost in " in ends


def test_what_will_never_be_taken_is_counted(programs, collector):
    """And what comes afterwards arrives."""
    ran, said = followed(programs, collector, ["400", "ok"])

    assert said["end", "traces"] == (3500, 2000, 0, "{'400': 1500}"), ran.err
    assert Counter(names(collector)) == Counter(str(number) for number in range(3500) if not 500 <= number < 2000)
    begins, ends = lines_of(programs)
    assert " do not arrive at " in begins
    assert " 1,500 spans lost in " in ends


POISONED = """
import time
import otel_pipeline
from opentelemetry import trace
pipe = otel_pipeline.instrument("app")
tracer = trace.get_tracer("app")

def batch(name, count):
    for number in range(count):
        tracer.start_span(f"{name} {number}").end()
    time.sleep(0.3)  # Longer than what is recorded is in memory alone.

def until(wanted):
    until_s = time.monotonic() + 60
    while (found := pipe.status().exports[0]).exported < wanted and time.monotonic() < until_s:
        time.sleep(0.02)
    whole = found.exported + found.queued + found.spooled + sum(found.dropped.values())
    print(found.exported, found.spooled, found.set_aside, found.started - whole, flush=True)

batch("before", 50)
batch("poison", 50)
for number in range(5):
    batch(f"after {number}", 20)
until(150)
pipe.flush(0.1)
open("mode", "w").write("ok")
while open("mode").read() == "ok":
    time.sleep(0.01)
until(200)
pipe.shutdown(30)
"""


@pytest.mark.parametrize("fault", ["reset", "hang", 503])
def test_one_batch_that_is_never_answered_holds_up_no_other(programs, collector, fault):
    """It is set aside, counted, said once, and arrives when it is taken; all others have arrived by then, each once."""
    collector.fault(fault, when=lambda request: b"poison" in request.body)
    file, over, before = programs.folder / "mode", threading.Event(), []
    file.write_text("")

    def follow():
        while not over.wait(0.01):
            if file.read_text() == "ok":
                before.extend(names(collector))
                collector.recover()
                file.write_text("done")

    following = threading.Thread(target=follow)
    following.start()
    try:
        ran = programs.run(
            POISONED,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_TIMEOUT=1,
            OTEL_PIPELINE_ENVIRONMENT="staging",
            timeout=180,
        )
    finally:
        over.set()
        following.join()
    others = Counter(f"before {number}" for number in range(50)) + Counter(
        f"after {batch} {number}" for batch in range(5) for number in range(20)
    )

    assert ran.out == "150 50 50 0\n200 0 0 0\n", ran.err
    assert Counter(before) == others
    assert Counter(names(collector)) == others + Counter(f"poison {number}" for number in range(50))
    assert ran.err.count("They are set aside, and tried again now and then") == 1
