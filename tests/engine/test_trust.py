"""Whose traces go on: decided once per partition, on plain tuples as messages, with both ways that spans are made."""

from __future__ import annotations

import itertools
import random
import threading
from operator import itemgetter

import pytest
from opentelemetry.context import Context, attach, get_current
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.processor import Processor
from otel_pipeline.engine.propagation import Propagation
from otel_pipeline.engine.settings import EngineSettings
from otel_pipeline.engine.spans import TracerSpans
from otel_pipeline.engine.totals import Totals
from otel_pipeline.engine.trace_context import LightSpan
from otel_pipeline.engine.trust import ForeignTraces, continues, is_foreign, unsampled
from otel_pipeline.export import compiled_spans
from otel_pipeline.export.compiled_spans import CompiledSpans
from otel_pipeline.export.sampling import root_decision

FIELDS = MessageFields(
    destination=lambda _message: "orders",
    partition=lambda _message: 0,
    offset=itemgetter(0),
    timestamp_ms=itemgetter(1),
    key=lambda _message: None,
    headers=itemgetter(2),
    value=lambda _message: b"v",
    body_bytes=lambda _message: 1,
)
NOW_MS = 1_800_000_000_000
SECOND = 1_000_000_000
offsets = itertools.count()


def header(environment, hops=1):
    return pipeline_header.encode(
        flags=0,
        hops=hops,
        environment=environment,
        origin_ms=NOW_MS - 2_000,
        newest_ms=0,
        path=5,
        producer_id=1,
        sequence=1,
        tag=1,
    )


def message(trace_id, environment="local", *, flags=1, state=None, hops=1):
    """A message of this environment; of an unknown one with None, and without our header with an empty name."""
    headers = [("traceparent", b"00-%032x-%016x-%02x" % (trace_id, 9, flags))]
    if state:
        headers.append(("tracestate", state))
    if environment != "":
        headers.append(("otelp", header(environment, hops)))
    return next(offsets), NOW_MS - 1_000, headers


class Seen(Sampler):
    """Never records, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        parent = get_current_span(parent_context).get_span_context()
        self.asked.append((parent.is_valid, trace_id, name, dict(attributes or {}), links))
        return SamplingResult(Decision.DROP)

    def get_description(self):
        return "seen"


class Follows(Sampler):
    """Records what its parent records, without being `ParentBased`; no roots."""

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        sampled = get_current_span(parent_context).get_span_context().trace_flags.sampled
        return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP)

    def get_description(self):
        return "follows"


class Side:
    """One process: what it is asked to process, and what it records."""

    def __init__(self, sampler, *, compiled=False, propagator=None, **settings):
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        tracer = provider.get_tracer("test")
        spans = compiled_spans.make(provider, tracer) if compiled else TracerSpans(tracer, root_decision(tracer))
        assert isinstance(spans, CompiledSpans) is compiled
        self.now_ns = NOW_MS * 1_000_000
        settings = {"environment": "production", "max_foreign_traces_per_second": None, **settings}
        self.engine = Engine(
            spans=spans,
            propagation=Propagation(propagator or get_global_textmap(), lambda _reason: None),
            totals=Totals(),
            settings=EngineSettings(**settings),
            clock_ns=lambda: self.now_ns,
            monotonic_ns=lambda: self.now_ns,
        )
        self.consumer = Consumer(
            self.engine, FIELDS, attributes={}, client_id=None, group="g", excluded=False, operation="poll"
        )
        self.processor = Processor(self.engine, FIELDS)

    def process(self, *messages):
        """Each in turn; the span context that was current, which is what sends carry on."""
        seen = []
        for each in messages:
            delivery = self.processor.begin(self.consumer.partition("orders", 0), each)
            seen.append(get_current_span().get_span_context())
            self.processor.finish(delivery)
        return seen

    def recorded(self):
        """(trace id, parent's span id, links as (trace id, sampled)) of each span."""
        return [
            (
                span.context.trace_id,
                span.parent.span_id if span.parent else None,
                [(link.context.trace_id, link.context.trace_flags.sampled) for link in span.links],
            )
            for span in self.exporter.get_finished_spans()
        ]


@pytest.fixture(params=[False, True], ids=["tracer", "compiled"])
def compiled(request):
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_left_current():
    before = get_current()
    yield
    left = get_current()
    attach(before)
    assert left is before


def test_everything_is_trusted_without_a_question():
    """The default, and the default outside of production: there is nobody to be asked about a message."""
    state = Side(ALWAYS_ON).consumer.partition("orders", 0)

    assert (state.continues, state.is_foreign, state.sender_is_parent) == (None, None, True)


def test_without_an_own_environment_nothing_is_foreign():
    """A process that does not know where it runs cannot tell who is from elsewhere; but trusts nobody of its own."""
    unknown = EngineSettings(max_foreign_traces_per_second=1)
    own_only = EngineSettings(trust=lambda _name: "same-environment")

    assert is_foreign(unknown, "orders") is None
    assert not continues(own_only, "orders")(header(None))


@pytest.mark.parametrize(
    ("trust", "environment", "becomes"),
    [
        ("all", "production", "followed"),
        ("all", "local", "limited"),
        ("all", "my-own-environment-name", "limited"),
        ("all", None, "followed"),
        ("all", "", "followed"),
        ("same-environment", "production", "followed"),
        ("same-environment", "local", "linked"),
        ("same-environment", None, "linked"),
        ("same-environment", "", "linked"),
        ("none", "production", "linked"),
        ("none", "", "linked"),
    ],
)
def test_what_becomes_of_a_senders_trace(trust, environment, becomes):
    """By trust and origin environment; an unknown environment is another one for same-environment only."""
    settings = EngineSettings(environment="production", trust=lambda _name: trust, max_foreign_traces_per_second=1)
    goes_on, foreign = continues(settings, "orders"), is_foreign(settings, "orders")
    sent = header(environment) if environment != "" else None

    assert (goes_on is None or goes_on(sent)) is (becomes != "linked")
    assert (foreign is not None and foreign(sent)) is (becomes == "limited")


@pytest.mark.parametrize("name", ["production", "a-region", "a-very-long-environment", "umgebung-süd-öst-1"])
def test_the_own_environment_is_known_by_any_name(name):
    """A header holds 16 bytes of a name that is no code, as bytes or text, with any number of hops."""
    goes_on = continues(EngineSettings(environment=name, trust=lambda _name: "same-environment"), "orders")
    foreign = is_foreign(EngineSettings(environment=name, max_foreign_traces_per_second=1), "orders")
    headers = [header(name), header(name, 200), header(name).decode()]
    others = [header("another"), header("local"), b"AA", b"", None, object(), header(name)[:30], header(name)[:39]]

    assert {goes_on(each) for each in headers * 2} == {True}
    assert {foreign(each) for each in headers} == {False}
    assert {goes_on(each) for each in others * 2} == {False}


def test_trust_none_gives_a_new_root_with_a_link(compiled):
    """The trace begins here; where the data began is still read."""
    side = Side(ParentBased(ALWAYS_ON), compiled=compiled, trust=lambda _name: "none")
    (seen,) = side.process(message(7, "production", hops=3))

    ((trace_id, parent, links),) = side.recorded()
    attributes = side.exporter.get_finished_spans()[0].attributes
    assert (trace_id == seen.trace_id, trace_id != 7, parent, links) == (True, True, None, [(7, True)])
    assert {name: value for name, value in attributes.items() if name.startswith("otel_pipeline.")} == {
        "otel_pipeline.delivery.age": 1.0,
        "otel_pipeline.data.age": 2.0,
        "otel_pipeline.origin.environment": "production",
        "otel_pipeline.hops": 3,
    }


def test_trust_none_cannot_be_made_to_record(compiled):
    """The sampled flag of somebody else is no reason, nor is a missing one."""
    never = Side(ParentBased(ALWAYS_OFF), compiled=compiled, trust=lambda _name: "none")
    always = Side(ParentBased(ALWAYS_ON), compiled=compiled, trust=lambda _name: "none")
    never.process(message(7), message(8, "production"))
    always.process(message(7, flags=0))

    assert (never.recorded(), len(always.recorded())) == ([], 1)


def test_same_environment_both_ways(compiled):
    """The own environment's trace goes on, the others' and the unknown's are links; flags as the senders set them."""
    side = Side(ParentBased(ALWAYS_ON), compiled=compiled, trust=lambda _name: "same-environment")
    side.process(message(7, "production"), message(8, "local"), message(9, ""), message(10, "production", flags=0))

    (own, foreign, unknown) = side.recorded()
    assert own == (7, 9, [(7, True)])
    assert [(found[1], found[2]) for found in (foreign, unknown)] == [(None, [(8, True)]), (None, [(9, True)])]


@pytest.mark.parametrize("process_parent", ["message", "ambient", "link"])
def test_the_applications_own_span_with_trust_none(process_parent):
    """It is the parent where it is asked for; without one, `ambient` does not fall back to the sender."""
    side = Side(ALWAYS_ON, trust=lambda _name: "none", process_parent=process_parent)
    before = get_current()
    attach(set_span_in_context(NonRecordingSpan(SpanContext(5, 6, is_remote=False, trace_flags=TraceFlags(1)))))
    side.process(message(7))
    attach(before)
    side.process(message(8))

    inside, outside = side.recorded()
    assert inside[1:] == ((6, [(7, True)]) if process_parent == "ambient" else (None, [(7, True), (5, True)]))
    assert outside[1:] == (None, [(8, True)])


def test_the_applications_own_span_is_not_limited(compiled):
    """Where it is the parent, its flag is this process's own; where nobody is, there is no flag."""
    for process_parent, expected in (("ambient", [(5, 6, [(7, True)])]), ("link", [])):
        side = Side(
            ParentBased(ALWAYS_OFF), compiled=compiled, max_foreign_traces_per_second=0, process_parent=process_parent
        )
        before = get_current()
        attach(set_span_in_context(NonRecordingSpan(SpanContext(5, 6, is_remote=False, trace_flags=TraceFlags(1)))))
        side.process(message(7))
        attach(before)

        assert (side.recorded(), side.engine.foreign_traces.refused) == (expected, 0)


def test_a_laptop_is_followed_at_a_trace_a_second(compiled):
    """Of 3,000 always-on traces in three seconds: three, and those that the own sampler would record anyway."""
    sampler = ParentBased(TraceIdRatioBased(0.01))
    side = Side(sampler, compiled=compiled, max_foreign_traces_per_second=1)
    source, bound = random.Random(1), TraceIdRatioBased(0.01).bound
    ids = [source.getrandbits(128) for _ in range(3_000)]
    for at, trace_id in enumerate(ids):
        side.now_ns = NOW_MS * 1_000_000 + at * SECOND // 1_000
        side.process(message(trace_id))

    own = {trace_id for trace_id in ids if trace_id & (1 << 64) - 1 < bound}
    recorded = [trace_id for trace_id, _, _ in side.recorded()]
    assert own < set(recorded)
    assert 15 < len(own) < 50
    assert sorted(ids.index(trace_id) for trace_id in set(recorded) - own) == [0, 1_000, 2_000]
    assert side.engine.foreign_traces.refused == 3_000 - len(recorded)


def test_one_trace_id_stays_whatever_was_decided(compiled):
    """What goes on downstream is the sender's trace, with the decision that was taken here."""
    side = Side(ParentBased(ALWAYS_OFF), compiled=compiled, max_foreign_traces_per_second=1)
    seen = side.process(message(7), message(8), message(7), message(7, flags=0), message(9, "production"))

    assert [(context.trace_id, context.trace_flags.sampled) for context in seen] == [
        (7, True),
        (8, False),
        (7, True),
        (7, False),
        (9, True),
    ]
    assert side.recorded() == [(7, 9, [(7, True)]), (7, 9, [(7, True)]), (9, 9, [(9, True)])]


def test_two_services_in_a_row_let_the_same_traces_through(compiled):
    """What the sampler of the first has recorded does not use up the rate of the second."""
    sampler = ParentBased(TraceIdRatioBased(0.5))
    first, second = (Side(sampler, compiled=compiled, max_foreign_traces_per_second=1) for _ in range(2))
    source = random.Random(2)
    for trace_id in [source.getrandbits(128) for _ in range(100)]:
        (seen,) = first.process(message(trace_id))
        second.process(message(trace_id, flags=int(seen.trace_flags), hops=2))

    assert [found[0] for found in first.recorded()] == [found[0] for found in second.recorded()]
    assert (first.engine.foreign_traces.refused > 0, second.engine.foreign_traces.refused) == (True, 0)


def test_a_sampler_of_any_kind_is_asked_as_for_a_root():
    """With the sender's trace id, all attributes, and without its span or a link to it."""
    sampler = Seen()
    side = Side(sampler, max_foreign_traces_per_second=0)
    side.process(message(7))

    (root, child) = sampler.asked
    assert (root[:3], child[:3]) == ((False, 7, "process orders"), (True, 7, "process orders"))
    assert root[3] == child[3]
    assert root[3]["otel_pipeline.origin.environment"] == "local"
    assert root[4] == ()


def test_a_sampler_that_follows_parents_in_its_own_way_is_limited_too():
    """It sees the sender's span without the flag."""
    side = Side(Follows(), max_foreign_traces_per_second=1)
    side.process(*(message(trace_id) for trace_id in (7, 8, 9)), message(10, "production"))

    assert [found[0] for found in side.recorded()] == [7, 10]


def test_a_tracer_whose_sampler_cannot_be_asked():
    """Not OpenTelemetry's own: no permission, but for the rate."""
    tracer = NoOpTracerProvider().get_tracer("test")

    assert root_decision(tracer) is None
    assert TracerSpans(tracer).samples_root(7, "name", None, Context(), dict) is False


def test_the_tracestates_threshold_goes_with_the_flag(compiled):
    """Composed samplers believe it; what else stands there is handed on, and the link keeps all."""
    side = Side(ParentBased(ALWAYS_OFF), compiled=compiled, max_foreign_traces_per_second=1)
    states = [b"ot=th:0;rv:abcdef01234567,vendor=1", b"ot=th:0", b"vendor=1", None]
    let_through, *refused = side.process(message(6, state=states[0]), *(message(7, state=each) for each in states))

    assert dict(let_through.trace_state) == {"ot": "th:0;rv:abcdef01234567", "vendor": "1"}
    assert [dict(context.trace_state) for context in refused] == [
        {"ot": "rv:abcdef01234567", "vendor": "1"},
        {},
        {"vendor": "1"},
        {},
    ]


class OwnFormat(TextMapPropagator):
    """A format of the application's own."""

    def extract(self, carrier, context=None, getter=None):
        found = getter.get(carrier, "own")
        sent = SpanContext(int(found[0]), 9, is_remote=True, trace_flags=TraceFlags(1))
        return set_span_in_context(NonRecordingSpan(sent), context)

    def inject(self, carrier, context=None, setter=None):
        """Not needed here."""

    @property
    def fields(self):
        return {"own"}


def test_other_propagators_are_limited_too(compiled):
    """Their spans are of another class."""
    side = Side(ParentBased(ALWAYS_OFF), compiled=compiled, propagator=OwnFormat(), max_foreign_traces_per_second=1)
    seen = side.process(*((1, NOW_MS, [("own", b"%d" % at), ("otelp", header("local"))]) for at in (7, 8)))

    assert [(context.trace_id, context.trace_flags.sampled) for context in seen] == [(7, True), (8, False)]


def test_unsampled_keeps_all_but_the_flag():
    """Of both kinds of span: ids, the other flags, tracestate."""
    state = TraceState([("vendor", "1")])
    spans = [
        NonRecordingSpan(SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(3), trace_state=state)),
        LightSpan(7, 8, 3, True, lambda: state),
        NonRecordingSpan(SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(3))),
        LightSpan(7, 8, 3, True),
    ]

    found = [unsampled(span).get_span_context() for span in spans]
    assert [(each.trace_id, each.span_id, each.trace_flags, each.is_remote) for each in found] == [(7, 8, 2, True)] * 4
    assert [dict(each.trace_state) for each in found] == [{"vendor": "1"}] * 2 + [{}] * 2


@pytest.mark.parametrize("trust", ["all", "same-environment", "none"])
def test_a_batch_is_nobodys_child_and_the_root_sampler_decides(compiled, trust):
    """All are linked, whoever sent them; their flags force nothing, and use up nothing."""
    settings = {"trust": lambda _name: trust, "max_foreign_traces_per_second": 1}
    sides = [Side(ParentBased(root), compiled=compiled, **settings) for root in (ALWAYS_ON, ALWAYS_OFF)]
    for side in sides:
        state = side.consumer.partition("orders", 0)
        side.processor.finish(
            side.processor.begin_batch([state] * 3, [message(7), message(8, "production"), message(9, "")])
        )
    side.process(message(10))

    (always, never) = (side.recorded() for side in sides)
    assert [found[1:] for found in always] == [(None, [(7, True), (8, True), (9, True)])]
    assert [found[0] for found in never] == ([10] if trust == "all" else [])


def test_a_message_too_old_is_not_asked_about(compiled):
    """It starts a new trace: the rate is left to others. `ambient` without a span of the application's is no exception."""
    for process_parent in ("message", "ambient"):
        side = Side(
            ParentBased(ALWAYS_OFF),
            compiled=compiled,
            max_foreign_traces_per_second=1,
            process_parent=process_parent,
            parent_max_age_ms=500,
        )
        (seen,) = side.process(message(7))

        assert (seen.trace_id != 7, side.engine.foreign_traces.refused) == (True, 0)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(None, 4_000), (0, 0), (0.5, 2), (1, 4), (2.5, 12), (100, 400), (20_000, 4_000)],
)
def test_the_rate(rate, expected):
    """New traces each millisecond for four seconds."""
    limit = ForeignTraces(rate)

    assert sum(limit.admit(at, 5 + at * SECOND // 1_000) for at in range(4_000)) == expected


def test_memory_is_bounded():
    """However high the rate is."""
    limit = ForeignTraces(1_000_000)
    admitted = sum(limit.admit(at, at) for at in range(50_000))

    assert (admitted, len(limit._admitted)) == (10_000, 10_000)
    assert limit.admit(0, SECOND // 100 - 1)
    assert limit.admit(50_000, SECOND // 100)
    assert limit._admitted == {50_000}


def test_threads_let_through_no_more_than_the_rate():
    """All of them at one instant; who is refused because of another thread may come again."""
    limit, admitted = ForeignTraces(50), []

    def work(own):
        admitted.extend(at for at in range(own, 20_000, 4) if limit.admit(at, 1))

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(admitted) == sorted(limit._admitted)
    assert len(admitted) == 50
