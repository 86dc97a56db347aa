"""A model call: one INTERNAL span, tied to the delivery in hand, counted whatever is sampled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, create_key, set_value
from opentelemetry.trace import get_current_span, set_span_in_context

from otel_pipeline import semconv
from otel_pipeline.engine.batch import batch_in_hand, span_of_batch
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.delivery import ambient, back_to, heal, in_hand
from otel_pipeline.engine.engine import OTHER, PLAIN_SUPPRESS_KEY
from otel_pipeline.engine.failure import describe as describe_failure
from otel_pipeline.engine.failure import end_anyway
from otel_pipeline.engine.guard import place_in_force, step_aside
from otel_pipeline.engine.model_objects import models
from otel_pipeline.engine.origin import age_s as age_at
from otel_pipeline.engine.prepared import DIFFERING, Called, Prepared, inside
from otel_pipeline.engine.request import origin_of_request
from otel_pipeline.engine.scope import decorate
from otel_pipeline.engine.spans import SPAN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_pipeline.engine.batch import Batch
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Hook
    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.origin import Origin
    from otel_pipeline.engine.prepared import Decided
    from otel_pipeline.engine.spans import Spans
    from otel_pipeline.engine.totals import Attributes, AttributeValue, Totals

F = TypeVar("F", bound="Callable[..., Any]")
MAX_MODELS = 100
MAX_VERSIONS = 5
"""Of one model, as its metrics have them: a canary beside what it is compared with."""
MAX_PREPARED = 1_000
"""Kinds of calls that are kept; those of more are prepared at each call."""
INFERENCE_KEY = create_key("otel_pipeline.inference")
"""In the context of a model call, its model: what a library calls inside it is no call of its own."""


class Inferences:
    """One per pipeline: begins the calls, counts them, bounds their names."""

    def __init__(
        self,
        *,
        spans: Spans,
        totals: Totals,
        guard: Guard,
        environment: str | None = None,
        exception_text: bool = False,
        hook: Hook | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.spans = spans
        self.guard = guard
        self.environment = environment
        self.exception_text = exception_text
        self.hook = hook
        self.clock_ns = clock_ns
        self.monotonic_ns = monotonic_ns
        self.active = True
        self._place = guard.place("inference")
        self.ending = guard.place("inference.finish", self._place)
        self.decisions: Callable[[str, str | None], Decided] | None = None
        """Gives what counts the decisions of a model and version, named as metrics have them."""
        self.pending: Callable[[], None] | None = None
        """Ends calls whose results have come to exist since; called each second, and where metrics are read."""
        self._prepared: dict[Called, Prepared] = {}
        self._models: dict[str, set[str]] = {}
        """The versions of each."""
        self._observed: WeakKeyDictionary[Span, str] = WeakKeyDictionary()
        """Spans of others' model calls that are under way."""
        self.duration = totals.histogram(
            semconv.OTEL_PIPELINE_INFERENCE_DURATION, "s", "Duration of a model call.", semconv.DURATION_BUCKETS_S
        )
        self.rows = totals.counter(semconv.OTEL_PIPELINE_INFERENCE_ROWS, "{row}", "Rows that models were given.")
        totals.gauge(
            semconv.OTEL_PIPELINE_MODEL_AGE,
            "s",
            "Since the file was written that a model was loaded from, where that is known.",
            self._model_ages,
        )

    def begin(
        self,
        model: str,
        *,
        operation: str = "predict",
        version: str | None = None,
        library: str | None = None,
        rows: int | None = None,
        device: str | None = None,
    ) -> InferenceCall:
        """Start a call and make its span current. Never raises; a suppressed call records nothing."""
        return self.open(Called(model, operation, version, library), rows, device)

    def open(self, called: Called, rows: int | None = None, device: str | None = None) -> InferenceCall:
        """Start such a call and make its span current, as `begin` does."""
        call = InferenceCall(called.model, called.operation, rows, called.version)
        call.clock = called.clock
        before: Context | None = None
        try:
            before = get_current()
            context = heal()
            if (
                self.active
                and not self._place.off
                and not context.get(_SUPPRESS_INSTRUMENTATION_KEY)
                and not context.get(PLAIN_SUPPRESS_KEY)
            ):
                self._open(call, ambient(context), self.prepared(called), device)
        except BaseException:
            self._place.failed(_undo, call, before)
        return call

    def prepared(self, called: Called) -> Prepared:
        """Return what all calls of this kind have in common."""
        found = self._prepared.get(called)
        if found is None:
            model, version = self._bounded(called.model, called.version)
            decided = None if self.decisions is None else self.decisions(model, version)
            found = Prepared(called, model, version, self.duration, self.rows, decided)
            if len(self._prepared) < MAX_PREPARED:
                self._prepared[called] = found
        return found

    def _open(self, call: InferenceCall, context: Context, prepared: Prepared, device: str | None) -> None:
        start_ns = self.clock_ns()
        delivery, batch, origin = _rests_on(context)
        parent: Any = context.get(SPAN_KEY) or span_of_batch()
        span: Span | None = self.spans.dropped(parent)
        if span is None:
            values = (*_data(origin, start_ns), device, call.rows)
            span = self.spans.start(prepared.shape, values, parent, context, (), start_ns)
            call.told_rows = call.rows
        call.prepared = prepared
        call.span, call.delivery, call.batch, call.origin = span, delivery, batch, origin
        call.start_ns = start_ns
        call.started_ns = self.monotonic_ns()
        call.inferences = self
        call.own = set_value(INFERENCE_KEY, call.model or True, set_span_in_context(span, context))
        call.resume()

    def observed(self, model: str, span: Span, given: Context | None) -> Callable[[bool], None] | None:
        """Describe, as one of ours, a model call whose span another instrumentation has started in this context.

        Returns what is to be told, when the span ends, whether the call failed; None where it is no call of its own: a
        call inside one of the same model is that call. Whether the span is recorded does not matter. Never raises.
        """
        try:
            context = heal() if given is None else given
            if (
                not self.active
                or self._place.off
                or context.get(_SUPPRESS_INSTRUMENTATION_KEY)
                or context.get(PLAIN_SUPPRESS_KEY)
            ):
                return None
            around = get_current_span(context)
            is_inside = model in {context.get(INFERENCE_KEY), inside.model, self._observed.get(around)}
            self._observed[span] = model
            if is_inside:
                return None
            delivery, _, origin = _rests_on(ambient(context))
            if origin is not None and span.is_recording():
                span.set_attributes(describe(origin, self.clock_ns()))
        except Exception:
            self._place.failed()
            return None

        def ended(failed: bool) -> None:  # noqa: FBT001 - the one thing that is told
            try:
                if not failed and self.active and self.decisions is not None:
                    decided = self.decisions(*self._bounded(model, None))
                    decided.decided(delivery, _origins_ms(delivery, None, origin), self.clock_ns(), span)
            except Exception:
                self._place.failed()

        return ended

    def decide(
        self,
        prepared: Prepared,
        rows: int | None,
        now_ns: int,
        delivery: OpenDelivery | None,
        batch: Batch | None = None,
        origin: Origin | None = None,
        span: Span | None = None,
    ) -> None:
        """Count a call that has succeeded as decisions on the delivery in hand, else the batch, else the origin."""
        if prepared.decided is not None:
            prepared.decided.decided(delivery, _origins_ms(delivery, batch, origin, rows), now_ns, span)

    def _model_ages(self) -> Iterator[tuple[Attributes, float]]:
        """Yield the ages of the models that have been called, for as long as they are there."""
        for identity, age_s in models.ages(lambda: self.clock_ns() / 1e9) if self.active else ():
            model, version = self._bounded(identity.name or OTHER, identity.version)
            attributes = {semconv.OTEL_PIPELINE_MODEL_NAME: model}
            yield attributes if version is None else {**attributes, semconv.OTEL_PIPELINE_MODEL_VERSION: version}, age_s

    def _bounded(self, model: str, version: str | None) -> tuple[str, str | None]:
        """Return name and version as metrics have them: the first so many of each."""
        versions = self._models.get(model)
        if versions is None:
            if len(self._models) >= MAX_MODELS and model != OTHER:
                self.guard.problem(
                    "models", f"more than {MAX_MODELS} model names: metrics of the others are counted under {OTHER!r}"
                )
                return self._bounded(OTHER, version)
            versions = self._models[model] = set()
        if version is None or version in versions:
            return model, version
        if len(versions) >= MAX_VERSIONS:
            self.guard.problem(
                f"versions.{model}",
                f"more than {MAX_VERSIONS} versions of {model}: metrics of the others are counted under {OTHER!r}",
            )
            return model, OTHER
        versions.add(version)
        return model, version


def _undo(call: InferenceCall, before: Context | None) -> None:
    """Leave a call that could not be begun."""
    back_to(before)
    call.inferences = None
    end_anyway(call.span)


def _rests_on(context: Context) -> tuple[OpenDelivery | None, Batch | None, Origin | None]:
    """Return the delivery in hand, else the last batch, and where the data of it, or of the request, began."""
    delivery = in_hand(context)
    if delivery is not None:
        return delivery, None, delivery.origin
    batch = batch_in_hand.get()
    return None, batch, origin_of_request(context) if batch is None else batch.origin


def _origins_ms(
    delivery: OpenDelivery | None, batch: Batch | None, origin: Origin | None, rows: int | None = None
) -> Sequence[int]:
    """Return what a call decides on, as `Origin.told_ms` has it: the oldest origin, or that of each row's own message.

    Rows are one message each where there are as many rows as messages, and nothing else that they rest on.
    """
    if delivery is not None:
        origin = delivery.origin  # What the application has said meanwhile, with `flow.input`, counts.
    if rows is not None and rows > 1 and origin is not None and origin.inputs == rows:
        found: Sequence[int] = ()
        if delivery is None and batch is not None:
            found = batch.origins_ms
        elif delivery is not None and delivery.members is not None:
            found = [abs(origin_ms) for _, _, origin_ms in delivery.members]
        if len(found) == rows:
            return found
    return (0 if origin is None else origin.told_ms,)


def _data(origin: Origin | None, start_ns: int) -> tuple[int | None, float | None, float | None, str | None]:
    """Return what a span tells of the data that the call rests on: inputs, age, newest age, environment."""
    if origin is None:
        return None, None, None, None
    now_s = start_ns / 1e9
    newest_s = age_at(origin.newest_ms, now_s) if origin.inputs > 1 else None
    return origin.inputs, age_at(origin.origin_ms, now_s), newest_s, origin.environment


def describe(origin: Origin, start_ns: int) -> dict[str, AttributeValue]:
    """Return the attributes by which every inference span tells of the data that it rests on."""
    told = zip(DIFFERING, _data(origin, start_ns), strict=False)
    return {name: value for name, value in told if value is not None}


class InferenceCall:
    """A model call that is under way. What is set here appears on its span and metrics."""

    refusal: Exception | None = None
    """Nothing is raised in place of a model call."""

    def __init__(self, model: str, operation: str, rows: int | None, version: str | None = None) -> None:
        self.model = model
        self.operation = operation
        self.rows = rows
        """Rows that the model was given; set it when it is known only inside."""
        self.version = version
        self.span: Span | None = None
        self.delivery: OpenDelivery | None = None
        self.batch: Batch | None = None
        self.origin: Origin | None = None
        """Where the data that it rests on began."""
        self.prepared: Prepared | None = None
        self.clock: str | None = None
        self.elapsed_ns: int | None = None
        """How long it took, where that is measured elsewhere."""
        self.told_rows: int | None = None
        """What its span has of them already."""
        self.inferences: Inferences | None = None
        self.own: Context
        self.before: Context
        self.start_ns = 0
        self.started_ns = 0

    def set_attribute(self, name: str, value: AttributeValue) -> None:
        """Set an attribute of the span; without one, nothing happens."""
        try:
            if self.span is not None:
                self.span.set_attribute(name, value)
        except Exception:
            step_aside("inference")

    def resume(self) -> None:
        """Become current."""
        if self.inferences is not None:
            self.before = get_current()
            attach(self.own)  # Without a token: a generator may be closed in another context.

    def suspend(self) -> None:
        """Stop being current, unless the application has put something on top and left it there."""
        if self.inferences is not None and get_current() is self.own:
            attach(self.before)

    def abandon(self) -> None:
        """Leave it, and end its span, where it could not be finished as usual."""
        if self.span is not None and get_current() is self.own:
            attach(self.before)
        self.inferences = self.delivery = None
        end_anyway(self.span)

    def finish(self, error: BaseException | None = None) -> None:
        """End the span and count the call, once. Raises nothing but what is the application's."""
        inferences, span, prepared = self.inferences, self.span, self.prepared
        if inferences is None or span is None or prepared is None:
            return
        try:
            self.suspend()
            self.inferences = None
            elapsed_ns = self.elapsed_ns
            if elapsed_ns is None:
                elapsed_ns = inferences.monotonic_ns() - self.started_ns
            now = Called(self.model, self.operation, self.version, prepared.called.library, self.clock)
            if now != prepared.called:
                prepared = inferences.prepared(now)
            prepared.count(elapsed_ns, self.rows, error)
            delivery, self.delivery = self.delivery, None  # It holds a context, which holds more.
            end_ns = self.start_ns + elapsed_ns
            if error is None:
                inferences.decide(prepared, self.rows, end_ns, delivery, self.batch, self.origin, span)
            self.batch = None
            if span.is_recording():
                self._describe(span, inferences, error)
            span.end(end_ns)
        except BaseException:
            inferences.ending.failed(self.abandon)

    def finish_timed(self, elapsed_ns: int, clock: str, launch_ns: int) -> None:
        """Finish a call that has succeeded and took so long by this clock, of which its launch took so long."""
        self.elapsed_ns, self.clock = elapsed_ns, clock
        self.set_attribute(semconv.OTEL_PIPELINE_INFERENCE_CLOCK, clock)
        self.set_attribute(semconv.OTEL_PIPELINE_INFERENCE_LAUNCH_DURATION, launch_ns / 1e9)
        self.finish()

    def _describe(self, span: Span, inferences: Inferences, error: BaseException | None) -> None:
        if self.rows is not None and self.rows != self.told_rows:
            span.set_attribute(semconv.OTEL_PIPELINE_INFERENCE_ROWS, self.rows)
        if self.version is not None and self.prepared is not None and self.version != self.prepared.called.version:
            span.set_attribute(semconv.OTEL_PIPELINE_MODEL_VERSION, self.version)
        if error is not None:
            describe_failure(span, error, with_text=inferences.exception_text)
        if inferences.hook is not None and inferences.hook.given is not None:
            inferences.hook(span, self)


_inferences: Inferences | None = None


def activate(inferences: Inferences | None) -> None:
    """Set what makes model calls; called by `instrument()` and `uninstrument()`."""
    global _inferences  # noqa: PLW0603 - one pipeline per process
    if _inferences is not None and inferences is None:
        _inferences.active = False
    _inferences = inferences


def _place() -> Place:
    return place_in_force("inference")


class Inference:
    """One use of `inference`, as a context manager or as a decorator."""

    __slots__ = ("_call", "_model", "_options")

    def __init__(self, model: str | None, options: dict[str, Any]) -> None:
        self._model = model
        self._options = options
        self._call: InferenceCall | None = None

    def __enter__(self) -> InferenceCall:
        call = None
        try:
            call = self._call = self._begin("model")
        except Exception:
            step_aside("inference")
        if call is None:
            return InferenceCall("model", "predict", None)
        return call

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        call = self._call
        try:
            if call is not None:
                call.finish(error)
                self._call = None
        except BaseException:
            step_aside("inference", *(() if call is None else (call.abandon,)))

    async def __aenter__(self) -> InferenceCall:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind; each call of it is a model call."""
        name = getattr(function, "__name__", "model")
        return decorate(function, lambda _args, _kwargs: self._begin(name), _place)

    def _begin(self, name: str) -> InferenceCall:
        model = self._model or name
        if _inferences is None:
            return InferenceCall(model, self._options["operation"], self._options["rows"], self._options["version"])
        return _inferences.begin(model, **self._options)


@overload
def inference(model: F) -> F: ...
@overload
def inference(
    model: str | None = None,
    *,
    version: str | None = None,
    operation: str = "predict",
    library: str | None = None,
    rows: int | None = None,
    device: str | None = None,
) -> Inference: ...
def inference(
    model: Any = None,
    *,
    version: str | None = None,
    operation: str = "predict",
    library: str | None = None,
    rows: int | None = None,
    device: str | None = None,
) -> Any:
    """Record a model call as span and metrics, with how old the data in hand is and where it began.

        with otel_pipeline.inference("churn-v3") as call:
            call.rows = len(rows)
            decide(model(rows))

        @otel_pipeline.inference("churn-v3")
        async def score(rows): ...

    Args:
        model: its name, of low cardinality; a decorated function's own name when left out.
        version: the model's version.
        operation: predict, predict_proba, transform, encode, run or generate.
        library: what runs the model.
        rows: how many rows it is given.
        device: where it runs, cpu or cuda:0 for example.

    Works as a context manager, also asynchronous, and as a decorator of functions, coroutine functions and generators
    of both kinds. Exceptions are recorded and re-raised unchanged. Without `instrument()` it does nothing.
    """
    if callable(model):
        return Inference(None, _options(None, "predict", None, None, None))(model)
    return Inference(cast("str | None", model), _options(version, operation, library, rows, device))


def _options(
    version: str | None, operation: str, library: str | None, rows: int | None, device: str | None
) -> dict[str, Any]:
    return {"version": version, "operation": operation, "library": library, "rows": rows, "device": device}
