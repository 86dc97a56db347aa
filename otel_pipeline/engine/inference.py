"""A model call: one INTERNAL span, tied to the delivery in hand, counted whatever is sampled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, create_key, set_value
from opentelemetry.trace import SpanKind, get_current_span, set_span_in_context

from otel_pipeline import semconv
from otel_pipeline.engine.batch import batch_in_hand, span_of_batch
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.delivery import ambient, back_to, heal, in_hand
from otel_pipeline.engine.engine import OTHER, PLAIN_SUPPRESS_KEY
from otel_pipeline.engine.failure import describe as describe_failure
from otel_pipeline.engine.failure import end_anyway, error_type
from otel_pipeline.engine.guard import place_in_force, step_aside
from otel_pipeline.engine.origin import age_s
from otel_pipeline.engine.request import origin_of_request
from otel_pipeline.engine.scope import decorate
from otel_pipeline.engine.span_shape import SpanShape
from otel_pipeline.engine.spans import SPAN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Hook
    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.origin import Origin
    from otel_pipeline.engine.spans import Spans
    from otel_pipeline.engine.totals import AttributeValue, Totals

F = TypeVar("F", bound="Callable[..., Any]")
MAX_MODELS = 100
MAX_VERSIONS = 5
"""Of one model, as its metrics have them: a canary beside what it is compared with."""
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
        self.decided: Callable[[str, str | None, OpenDelivery | None, int, int, Span], None] | None = None
        """Called for each call of a model: (model, delivery in hand, oldest origin in ms or 0, now in ns, span)."""
        self._models: dict[str, set[str]] = {}
        """The versions of each."""
        self._observed: WeakKeyDictionary[Span, str] = WeakKeyDictionary()
        """Spans of others' model calls that are under way."""
        self.duration = totals.histogram(
            semconv.OTEL_PIPELINE_INFERENCE_DURATION, "s", "Duration of a model call.", semconv.DURATION_BUCKETS_S
        )
        self.rows = totals.counter(semconv.OTEL_PIPELINE_INFERENCE_ROWS, "{row}", "Rows that models were given.")

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
        call = InferenceCall(model, operation, rows, version)
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
                described = {
                    semconv.OTEL_PIPELINE_MODEL_VERSION: version,
                    semconv.OTEL_PIPELINE_MODEL_LIBRARY: library,
                    semconv.OTEL_PIPELINE_INFERENCE_DEVICE: device,
                }
                self._open(call, ambient(context), {name: value for name, value in described.items() if value})
        except BaseException:
            self._place.failed(_undo, call, before)
        return call

    def _open(self, call: InferenceCall, context: Context, attributes: dict[str, AttributeValue]) -> None:
        start_ns = self.clock_ns()
        attributes[semconv.OTEL_PIPELINE_MODEL_NAME] = call.model
        attributes[semconv.OTEL_PIPELINE_INFERENCE_OPERATION] = call.operation
        delivery, origin = _rests_on(context)
        if origin is not None:
            attributes.update(describe(origin, start_ns))
        parent: Any = context.get(SPAN_KEY) or span_of_batch()
        span: Span | None = self.spans.dropped(parent)
        if span is None:
            shape = SpanShape(f"predict {call.model}", SpanKind.INTERNAL, attributes)
            span = self.spans.start(shape, (), parent, context, (), start_ns)
        call.span, call.delivery, call.origin = span, delivery, origin
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
            inside = context.get(INFERENCE_KEY) == model or self._observed.get(around) == model
            self._observed[span] = model
            if inside:
                return None
            delivery, origin = _rests_on(ambient(context))
            if origin is not None and span.is_recording():
                span.set_attributes(describe(origin, self.clock_ns()))
        except Exception:
            self._place.failed()
            return None

        def ended(failed: bool) -> None:  # noqa: FBT001 - the one thing that is told
            try:
                if not failed and self.active:
                    self.decide(model, None, delivery, origin, self.clock_ns(), span)
            except Exception:
                self._place.failed()

        return ended

    def decide(
        self,
        model: str,
        version: str | None,
        delivery: OpenDelivery | None,
        origin: Origin | None,
        now_ns: int,
        span: Span,
    ) -> None:
        """Count a call that has succeeded as a decision, on data as old as it is at that moment."""
        if self.decided is None:
            return
        if delivery is not None:
            origin = delivery.origin  # What the application has said meanwhile, with `flow.input`, counts.
        origin_ms = 0 if origin is None else origin.told_ms
        self.decided(*self._bounded(model, version), delivery, origin_ms, now_ns, span)

    def record(self, call: InferenceCall, elapsed_ns: int, error: BaseException | None) -> None:
        """Count a finished call."""
        model, version = self._bounded(call.model, call.version)
        attributes: dict[str, AttributeValue] = {
            semconv.OTEL_PIPELINE_MODEL_NAME: model,
            semconv.OTEL_PIPELINE_INFERENCE_OPERATION: call.operation,
        }
        if version is not None:
            attributes[semconv.OTEL_PIPELINE_MODEL_VERSION] = version
        if call.rows:
            self.rows.local(attributes).cell.value += call.rows
        if error is not None:
            attributes[semconv.ERROR_TYPE] = error_type(error)
        self.duration.local(attributes).cell.record(elapsed_ns / 1e9)

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


def _rests_on(context: Context) -> tuple[OpenDelivery | None, Origin | None]:
    """Return the delivery in hand, and where the data in it, or else in the last batch or the request, began."""
    delivery = in_hand(context)
    if delivery is not None:
        return delivery, delivery.origin
    batch = batch_in_hand.get()
    return None, origin_of_request(context) if batch is None else batch.origin


def describe(origin: Origin, start_ns: int) -> dict[str, AttributeValue]:
    """Return the attributes by which every inference span tells of the data that it rests on."""
    attributes: dict[str, AttributeValue] = {semconv.OTEL_PIPELINE_DATA_INPUTS: origin.inputs}
    oldest_s, newest_s = (age_s(time_ms, start_ns / 1e9) for time_ms in (origin.origin_ms, origin.newest_ms))
    if oldest_s is not None:
        attributes[semconv.OTEL_PIPELINE_DATA_AGE] = oldest_s
    if origin.inputs > 1 and newest_s is not None:
        attributes[semconv.OTEL_PIPELINE_DATA_NEWEST_AGE] = newest_s
    if origin.environment is not None:
        attributes[semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT] = origin.environment
    return attributes


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
        self.origin: Origin | None = None
        """Where the data that it rests on began."""
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
        inferences, span = self.inferences, self.span
        if inferences is None or span is None:
            return
        try:
            self.suspend()
            self.inferences = None
            elapsed_ns = inferences.monotonic_ns() - self.started_ns
            inferences.record(self, elapsed_ns, error)
            delivery, self.delivery = self.delivery, None  # It holds a context, which holds more.
            if error is None:
                now_ns = self.start_ns + elapsed_ns
                inferences.decide(self.model, self.version, delivery, self.origin, now_ns, span)
            if span.is_recording():
                self._describe(span, inferences, error)
            span.end(self.start_ns + elapsed_ns)
        except BaseException:
            inferences.ending.failed(self.abandon)

    def _describe(self, span: Span, inferences: Inferences, error: BaseException | None) -> None:
        if self.rows is not None:
            span.set_attribute(semconv.OTEL_PIPELINE_INFERENCE_ROWS, self.rows)
        if self.version is not None:
            span.set_attribute(semconv.OTEL_PIPELINE_MODEL_VERSION, self.version)
        if error is not None:
            describe_failure(span, error, with_text=inferences.exception_text)
        if inferences.hook is not None:
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
