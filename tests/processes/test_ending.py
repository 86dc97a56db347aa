"""The end of a process has two moments: nothing that is recorded between them is lost, beside the stock SDK."""

from __future__ import annotations

import socket
import textwrap

import kafka
import pytest

OURS = """
import otel_pipeline
pipe = otel_pipeline.instrument("app", environment="production")
"""
STOCK = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""
SPANS = """
import logging
logging.basicConfig(level=logging.DEBUG, format="LOGGED %(name)s %(message)s")
for name in ("urllib3", "requests"):
    logging.getLogger(name).setLevel(logging.WARNING)
from opentelemetry import trace
import atexit, threading, time
from concurrent.futures import ThreadPoolExecutor

def spans():
    for _ in range(100):
        with trace.get_tracer("app").start_as_current_span("late"):
            pass
        time.sleep(0.005)
"""
WAYS = {
    "a worker goes on when the main thread has ended": "threading.Thread(target=spans).start()",
    "work is left in an executor": "executor = ThreadPoolExecutor(1); executor.submit(spans)",
    "spans come from atexit": "atexit.register(spans)",
    "a worker goes on, and registers atexit": "threading.Thread(target=lambda: atexit.register(spans)).start()",
}


@pytest.fixture
def silent():
    """An address that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("sdk", ["ours", "stock"])
@pytest.mark.parametrize("way", WAYS)
def test_what_comes_after_the_main_threads_last_line(programs, collector, way, sdk):
    """All of it, as with the stock SDK; and nothing of ours in the application's log."""
    source = (OURS if sdk == "ours" else STOCK) + SPANS + WAYS[way]
    ran = programs.run(source, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)

    assert (ran.code, collector.spans()) == (0, {"late": 100}), ran.err
    assert ran.err == ""


def test_log_records_of_atexit_handlers(programs, collector):
    """Loggers work to the end, and so do we."""
    source = OURS + SPANS + "atexit.register(lambda: [logging.info('line %d', n) for n in range(2000)])"
    ran = programs.run(source, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)

    assert (ran.code, collector.logs(), ran.err.count("LOGGED root line")) == (0, 2000, 2000)


def test_what_comes_after_the_end_is_not_spoken_of(programs, collector):
    """A handler that was registered before `instrument()` runs after us: the SDK would log a line for each span."""
    before = SPANS + "atexit.register(spans); atexit.register(lambda: logging.info('bye'))"
    ran = programs.run(before + OURS, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)

    said = [line for line in ran.err.splitlines() if " -> OTLP " not in line]  # Where telemetry goes, at the start.

    assert (ran.code, said) == (0, ["LOGGED root bye"])


DOORS = """
import builtins, threading
from otel_pipeline import current, extract, flow, inference, inject, process, require_fresh

given = dict(extract=extract, inference=inference, joined=flow.joined, capture=flow.capture, input=flow.input,
             inject=inject, current=current, process=process, require_fresh=require_fresh)

def use(extract, inference, joined, capture, input, inject, current, process, require_fresh):
    with extract(None, destination="orders"), inference("m"), joined(capture()), require_fresh(1e9):
        input("features", age_s=1.0)
        current()
        return inject(dict(tenant="7"))["tenant"]

@inference("m")
def each():
    while True:
        yield use(**given)

class Late:
    def __init__(self, name):
        self.name, self.use, self.given, self.write, self.each = name, use, given, os.write, each()
        next(self.each)

    def __del__(self):
        try:
            said = self.use(**self.given)
            self.each.close()
        except BaseException as error:
            said = repr(error)
        self.write(1, (self.name + " " + said + chr(10)).encode())

def forever():
    while True:
        use(**given)

of_the_module, builtins.late = Late("module"), Late("builtins")
for _ in range({threads}):
    threading.Thread(target=forever, daemon=True).start()
"""


@pytest.mark.once
@pytest.mark.parametrize(("threads", "finalized"), [(0, ["builtins 7", "module 7"]), (3, ["builtins 7"])])
def test_what_is_called_while_the_interpreter_ends(programs, threads, finalized):
    """By finalizers, whose module is gone, a generator that was left open, and daemon threads: none of it fails.

    Where such threads run, Python does not finalize what their module holds.
    """
    nowhere = dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none")
    ran = programs.run(f"import os{OURS}{DOORS.format(threads=threads)}", **nowhere)

    assert (ran.code, sorted(ran.out.splitlines()), ran.err) == (0, finalized, "")


SENDS = """
import logging, os
from kafka import KafkaProducer
producer = KafkaProducer(bootstrap_servers=os.environ["BROKER"], api_version=(2, 3), linger_ms={linger})
for number in range(20):
    producer.send("orders", b"%d" % number)
"""


@pytest.mark.parametrize("made", ["before", "after"])
@pytest.mark.parametrize("linger", [0, 600])
def test_a_job_that_sends_and_ends(programs, collector, broker, made, linger):
    """kafka-python delivers at exit, by a handler before ours, or by its own thread while we wait for it."""
    sends = SENDS.format(linger=linger)
    source = OURS + sends if made == "after" else sends.replace("\nfor ", OURS + "\nfor ")
    ran = programs.run(source, BROKER=broker, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    sent = collector.sums("messaging.client.sent.messages")

    assert (ran.code, collector.spans(), sum(sent.values())) == (0, {"send orders": 20}, 20), ran.err
    # 2.0 gives up at exit what its own thread has not delivered by then, and tells each message's future.
    assert len(sent) == 1 or kafka.__version__.startswith("2.0."), sent


@pytest.mark.parametrize("environment", ["local", "production"])
def test_one_deadline_for_sends_and_collector(programs, silent, environment):
    """Neither a broker that is gone nor a Collector that hangs, nor both, hold the program longer than that."""
    source = f"""
    import otel_pipeline, threading, time
    pipe = otel_pipeline.instrument("app", environment="{environment}")
    with otel_pipeline.inference("model"):
        pass
    pipe._providers._ending.sends_are_open = lambda: True
    began = []
    threading._register_atexit(lambda: began.append(time.monotonic()))
    leave = pipe._providers._ending.leave
    def measured():
        leave()
        print(time.monotonic() - began[0])
    pipe._providers._ending.leave = measured
    """
    ran = programs.run(source, OTEL_EXPORTER_OTLP_ENDPOINT=silent)
    at_most_s = 0.5 if environment == "local" else 2.0

    assert ran.code == 0, ran.err
    assert 0.75 * at_most_s <= float(ran.out) < at_most_s + 1


def test_one_thread_for_any_number_of_flushes(programs, silent):
    """A Collector that hangs is asked by one; what was asked meanwhile is done once."""
    source = """
    import otel_pipeline, threading
    pipe = otel_pipeline.instrument("app", environment="production")
    with otel_pipeline.inference("model"):
        pass
    flushed = {pipe.flush(0.002) for _ in range(300)}
    print(flushed, sum(thread.name == "otel_pipeline.handing_over" for thread in threading.enumerate()))
    print(threading.active_count() < 10)
    """
    ran = programs.run(source, OTEL_EXPORTER_OTLP_ENDPOINT=silent)

    assert (ran.code, ran.out) == (0, "{False} 1\nTrue\n"), ran.err


def test_shutting_down_and_instrumenting_again_leaks_nothing(programs, collector):
    """No thread, no object of ours, no open file; and nothing is said."""
    source = """
    import gc, os, threading
    import otel_pipeline
    from otel_pipeline.export.ending import Ending
    from otel_pipeline.export.handing_over import HandingOver
    from otel_pipeline.export.otlp_lines import Lines
    from otel_pipeline.export.providers import Providers
    from otel_pipeline.engine.totals import Totals
    from otel_pipeline.verdict.monitoring import Monitoring

    kinds = (Ending, HandingOver, Lines, Providers, Totals, Monitoring, otel_pipeline.Pipeline)

    def there():
        gc.collect()
        objects = [sum(type(each) is kind for each in gc.get_objects()) for kind in kinds]
        return objects, threading.active_count(), len(os.listdir("/proc/self/fd"))

    def again():
        pipe = otel_pipeline.instrument("app", environment="staging")
        with otel_pipeline.inference("model"):
            pass
        return pipe.shutdown(20)

    print(again(), again())
    first = there()
    print([again() for _ in range(5)])
    print(there() == first or (first, there()))
    """
    ran = programs.run(source, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)

    assert ran.out.splitlines() == ["True True", "[True, True, True, True, True]", "True"], ran.err
    assert ran.err == ""
    assert collector.spans() == {"predict model": 7}


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("left", ["thread", "executor"])
def test_a_child_that_leaves_work_to_threads(programs, collector, method, left):
    """It ends when they have ended, though it leaves by `os._exit`: multiprocessing waits for them, and so do we."""
    source = f"""
    {{ours}}
    import multiprocessing, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from opentelemetry import trace

    def spans():
        for _ in range(20):
            with trace.get_tracer("app").start_as_current_span("late"):
                pass
            time.sleep(0.01)

    def thread():
        threading.Thread(target=spans).start()

    def executor():
        ThreadPoolExecutor(1).submit(spans)

    if __name__ == "__main__":
        child = multiprocessing.get_context("{method}").Process(target={left})
        child.start()
        child.join(50)
        print(child.exitcode)
    """
    ran = programs.run(
        textwrap.dedent(source).format(ours=OURS), OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, timeout=90
    )

    assert (ran.out, collector.spans()) == ("0\n", {"late": 20}), ran.err
