"""Official gen_ai instrumentations: found by their distribution, switched on once, switched off again."""

from __future__ import annotations

import copy
import importlib
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NoOpTracerProvider

import otel_pipeline
from otel_pipeline.engine import inference
from otel_pipeline.export import generative
from otel_pipeline.export import official as official_instrumentations


class Instrumentor:
    """Stands in for an official one: it makes the spans that they make."""

    is_instrumented_by_opentelemetry = False
    missing = None

    def __call__(self):
        return self

    def _check_dependency_conflicts(self):
        return self.missing

    def instrument(self, tracer_provider=None, **_options):
        self.is_instrumented_by_opentelemetry = True
        self.tracer = trace.get_tracer("official", tracer_provider=tracer_provider)

    @contextmanager
    def call(self, name="chat m", **attributes):
        """As `opentelemetry-util-genai` does: what the span is of is known at its end."""
        span = self.tracer.start_span(name=name, kind=trace.SpanKind.CLIENT, attributes=attributes or None)
        with trace.use_span(span, end_on_exit=True):
            yield span

    def uninstrument(self):
        self.is_instrumented_by_opentelemetry = False


def point(name, distribution, instrumentor):
    return SimpleNamespace(
        name=name, dist=SimpleNamespace(name=distribution, read_text=lambda _file: None), load=lambda: instrumentor
    )


@pytest.fixture
def official(monkeypatch):
    """One that is installed with its client, one without, and one that is not of generative models."""
    with_client, without = Instrumentor(), Instrumentor()
    without.missing = "openai"
    points = [
        point("anthropic", "opentelemetry-instrumentation-genai-anthropic", with_client),
        point("openai", "opentelemetry_instrumentation_openai_v2", without),
        point("requests", "opentelemetry-instrumentation-requests", Instrumentor()),
    ]
    monkeypatch.setattr(generative, "entry_points", lambda group: points)
    return with_client, without


def test_they_are_switched_on_and_off(telemetry, official):
    """With their client library only; what we switched on is switched off by `uninstrument()`."""
    pipe = telemetry.instrument()
    states = {
        adapter.name: adapter.state
        for adapter in pipe.status().adapters
        if adapter.name in ("anthropic", "openai", "requests")
    }
    during = [instrumentor.is_instrumented_by_opentelemetry for instrumentor in official]
    pipe.uninstrument()

    assert (states, during) == ({"anthropic": "instrumented", "openai": "skipped"}, [True, False])
    assert not official[0].is_instrumented_by_opentelemetry


CLIENT = {
    "a_client": ("a-client", "2.0"),
    "of_another_name": ("other-client", "3.0"),
}


@pytest.fixture
def lazy(monkeypatch, tmp_path):
    """A function that installs one for clients that are installed, and returns what was loaded of it."""
    for module, (name, version) in CLIENT.items():
        (tmp_path / f"{module}.py").write_text("")
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (tmp_path / "of_it.py").write_text("import a_client\nloaded = []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(official_instrumentations._PACKAGES, "other-client", "of_another_name")

    def install(*requires, instrumentor=None):
        loaded = []

        def load():
            loaded.append(1)
            return instrumentor or Instrumentor()

        dist = SimpleNamespace(
            name="opentelemetry-instrumentation-genai-x",
            version="1.3b0",
            read_text=lambda _file: None,
            requires=["wrapt<3", "pytest; extra == 'test'", "not a requirement !", *requires],
        )
        found = SimpleNamespace(name="x", dist=dist, load=load, module="of_it")
        monkeypatch.setattr(generative, "entry_points", lambda group: [found])
        return loaded

    yield install
    for module in (*CLIENT, "of_it"):
        sys.modules.pop(module, None)


def state_of(pipe):
    return next((adapter.state, adapter.reason) for adapter in pipe.status().adapters if adapter.name == "x")


@pytest.mark.parametrize(
    ("requires", "module"),
    [
        (["a-client<3,>=1; extra == 'instruments'"], "a_client"),
        (["other-client>=1; extra == 'instruments'"], "of_another_name"),
        (["a-client>=3; extra == 'instruments-any'", "other-client; extra == 'instruments-any'"], "of_another_name"),
    ],
)
def test_no_client_is_imported_for_them(telemetry, lazy, requires, module):
    """They are switched on when the application imports it, and off by `uninstrument()`."""
    instrumentor = Instrumentor()
    loaded = lazy(*requires, instrumentor=instrumentor)
    pipe = telemetry.instrument()
    waiting = (state_of(pipe), list(loaded), module in sys.modules)
    importlib.import_module(module)
    on = (state_of(pipe)[0], instrumentor.is_instrumented_by_opentelemetry)
    sys.modules.pop(module)
    importlib.import_module(module)
    pipe.uninstrument()

    assert waiting == (("waiting", f"until {module} is imported"), [], False)
    assert (on, loaded) == (("instrumented", True), [1])
    assert not instrumentor.is_instrumented_by_opentelemetry


def test_where_the_client_is_there_already(telemetry, lazy):
    """At once."""
    lazy("a-client; extra == 'instruments'")
    importlib.import_module("a_client")

    assert state_of(telemetry.instrument()) == ("instrumented", "the official instrumentation")


def test_where_others_load_it(telemetry, lazy):
    """`opentelemetry-instrument` does: it is in the middle of its own import when its client is imported."""
    loaded = lazy("a-client; extra == 'instruments'")
    pipe = telemetry.instrument()
    importlib.import_module("of_it")

    assert (state_of(pipe)[0], loaded) == ("instrumented", [1])


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        (
            "a-client<2,>=1; extra == 'instruments'",
            "a-client 2.0 is not supported by opentelemetry-instrumentation-genai-x 1.3b0 (<2,>=1)",
        ),
        ("no-client>=1; extra == 'instruments'", "its client library is not installed (no-client)"),
    ],
)
def test_why_one_is_not_used(telemetry, lazy, requires, reason):
    """A wrong version is told as such; nothing is loaded for either."""
    loaded = lazy(requires)
    pipe = telemetry.instrument()
    importlib.import_module("a_client")

    assert (state_of(pipe), loaded) == (("skipped", reason), [])


def test_one_that_fails_when_its_client_is_imported(telemetry, lazy):
    """The import is not disturbed; it is said once."""

    class Failing(Instrumentor):
        def instrument(self, **_options):
            raise SystemExit

    lazy("a-client; extra == 'instruments'", instrumentor=Failing())
    pipe = telemetry.instrument()
    importlib.import_module("a_client")

    assert state_of(pipe) == ("failed", "see the log")
    assert pipe.status().errors == {"genai.x": 1}


def test_what_the_application_switched_on_stays(telemetry, official):
    """It is not ours to switch off."""
    official[0].instrument()
    telemetry.instrument().uninstrument()

    assert official[0].is_instrumented_by_opentelemetry


def test_they_can_be_disabled(telemetry, official):
    """By their name."""
    telemetry.instrument(disable=["anthropic"])

    assert not official[0].is_instrumented_by_opentelemetry


@pytest.mark.no_check
def test_their_spans_say_how_old_the_data_is(telemetry, official, record):
    """Inside of a delivery: age, number of inputs and origin environment."""
    telemetry.instrument()
    with otel_pipeline.process(record):
        trace.get_tracer("gen").start_span("chat m", attributes={"gen_ai.operation.name": "chat"}).end()

    (span,) = [span for span in telemetry.spans() if span.name == "chat m"]
    assert (span.attributes["otel_pipeline.data.inputs"], span.attributes["otel_pipeline.origin.environment"]) == (
        1,
        "staging",
    )
    assert span.attributes["otel_pipeline.data.age"] > 0


def decisions(telemetry):
    """How many by model and destination."""
    metric = telemetry.metric("otel_pipeline.decision.age")
    return {
        (point.attributes["otel_pipeline.model.name"], point.attributes.get("messaging.destination.name")): sum(
            point.bucket_counts
        )
        for point in (metric.points if metric else ())
    }


@pytest.mark.no_check
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_each_call_is_a_decision(telemetry, official, record, tmp_path, sampler):
    """Sampled or not, in any thread, for the histogram and for the model's objective."""
    path = tmp_path / "otel_pipeline.yaml"
    path.write_text("objectives: {fresh: {model: m, threshold: 2s, objective: 0.9}}")
    telemetry.instrument(config_file=path)
    telemetry.sample(sampler)
    call = official[0].call

    def work():
        with otel_pipeline.process(record), call(), call("execute_tool search"):
            pass

    with otel_pipeline.process(record):
        with call():
            pass
        with call("chat m", **{"gen_ai.operation.name": "chat", "gen_ai.request.model": "other"}):
            pass
        with official[0].tracer.start_as_current_span("embeddings e"):
            pass
    with call():
        pass
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert decisions(telemetry) == {("m", "orders"): 2, ("other", "orders"): 1, ("e", "orders"): 1}
    met = Counter()
    for point in telemetry.metric("otel_pipeline.slo.events").points:
        met[point.attributes["otel_pipeline.slo.met"]] += point.value
    assert met == {"true": 0, "false": 2, "unknown": 1, "replayed": 0}
    recorded = [span for span in telemetry.spans() if span.name == "chat m"]
    ages = ["otel_pipeline.data.age" in span.attributes for span in recorded]
    assert ages == ([True, True, False, True] if sampler is ALWAYS_ON else [])


@pytest.mark.no_check
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_a_call_inside_of_itself_is_one(telemetry, official, record, sampler):
    """A framework's span around the client's, and a call of ours around both; another model is another decision."""
    telemetry.instrument()
    telemetry.sample(sampler)
    call = official[0].call
    with otel_pipeline.process(record):
        with call(), call(), call():
            pass
        with otel_pipeline.inference("m"), call(), call("chat n"):
            pass
        with call("invoke_agent a", **{"gen_ai.request.model": "m", "gen_ai.operation.name": "invoke_agent"}), call():
            pass

    assert decisions(telemetry) == {("m", "orders"): 3, ("n", "orders"): 1}


@pytest.mark.no_check
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_a_failed_call_is_no_decision(telemetry, official, record, sampler):
    """Sampled or not; the span is what it was."""
    telemetry.instrument()
    telemetry.sample(sampler)
    call = official[0].call
    with otel_pipeline.process(record):
        with pytest.raises(KeyError), call():
            raise KeyError
        call_of_util = official[0].tracer.start_span("chat m")
        call_of_util.set_status(trace.Status(trace.StatusCode.ERROR, "no"))
        call_of_util.end()
        stream = official[0].tracer.start_span("chat s")
        try:
            next(iter(()))
        except StopIteration:
            stream.end()  # As a stream that has been read to its end.
        try:
            raise TimeoutError  # noqa: TRY301
        except TimeoutError:
            with call("chat n") as span:  # Another try, in the handler of the first one's exception.
                span.end()  # Twice, as a stream that is closed may do.

    assert decisions(telemetry) == {("s", "orders"): 1, ("n", "orders"): 1}
    statuses = {span.name: span.status for span in telemetry.spans() if span.name.startswith("chat")}
    assert statuses == ({"chat m": "ERROR", "chat s": "UNSET", "chat n": "UNSET"} if sampler is ALWAYS_ON else {})
    assert "end" not in vars(span)


@pytest.mark.no_check
def test_they_follow_the_provider_in_force(telemetry, official, record):
    """Also one that makes no spans; after `uninstrument()` nothing is counted."""
    pipe = telemetry.instrument()
    call, tracers = official[0].call, official[0].tracer
    own, telemetry.tracer_provider = telemetry.tracer_provider, NoOpTracerProvider()
    try:
        with otel_pipeline.process(record):
            for _ in range(3):
                with call():
                    pass
        assert decisions(telemetry) == {("m", "orders"): 3}
    finally:
        telemetry.tracer_provider = own
    pipe.uninstrument()
    telemetry.instrument(disable=["genai"])
    with call():
        pass

    assert decisions(telemetry) == {}
    assert [span.name for span in telemetry.spans()].count("chat m") == 1
    assert copy.copy(tracers).start_span("x").get_span_context().is_valid


@pytest.mark.no_check
def test_a_failure_of_ours_reaches_no_call(telemetry, official, record):
    """It is counted; the call has its span."""
    pipe = telemetry.instrument()

    class Odd(str):
        __slots__ = ()

        def partition(self, _sign):
            raise RuntimeError("no")

    inference._inferences.clock_ns = None
    with otel_pipeline.process(record), official[0].call() as span, official[0].call(Odd("chat m")) as other:
        assert span.is_recording()
        assert other.is_recording()
    assert pipe.status().errors == {"inference": 1}


@pytest.mark.parametrize(
    ("name", "attributes", "model"),
    [
        ("chat gpt-4o", None, "gpt-4o"),
        ("chat", None, "_other"),
        ("chat None", None, "_other"),
        ("generate_content models/gemini 2", {}, "models/gemini 2"),
        ("x", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, "m"),
        ("x", {"gen_ai.operation.name": "chat"}, "_other"),
        ("x", {"gen_ai.request.model": "m"}, "m"),
        ("chat m", {"gen_ai.request.model": 7}, "_other"),
        ("x", {"gen_ai.operation.name": "execute_tool", "gen_ai.request.model": "m"}, None),
        ("invoke_agent a", {"gen_ai.request.model": "m"}, None),
        ("GET /v1", None, None),
        ("", {}, None),
    ],
)
def test_what_is_a_model_call(name, attributes, model):
    """By attributes where there are some, else by the name that the conventions give."""
    assert generative.model_of(name, attributes) == model


@pytest.fixture
def record():
    """A message as kafka-python hands it out."""
    from kafka.consumer.fetcher import ConsumerRecord

    from otel_pipeline.engine import pipeline_header

    now_ms = int(time.time() * 1000)
    header = pipeline_header.encode(
        flags=0,
        hops=1,
        environment="staging",
        origin_ms=now_ms - 60_000,
        newest_ms=0,
        path=1,
        producer_id=0,
        sequence=0,
        tag=0,
    )
    values = {"topic": "orders", "partition": 0, "offset": 1, "timestamp": now_ms, "headers": [("otelp", header)]}
    return ConsumerRecord(*[values.get(name, 0) for name in ConsumerRecord._fields])
