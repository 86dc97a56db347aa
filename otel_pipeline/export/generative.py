"""Generative models: the official instrumentations, switched on when they are installed; nothing is written again."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, Tracer, TracerProvider, use_span
from opentelemetry.util._decorator import _agnosticcontextmanager

from otel_pipeline.engine.engine import OTHER
from otel_pipeline.engine.guard import raise_theirs, step_aside
from otel_pipeline.installed import entry_points, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from importlib.metadata import EntryPoint

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Status

Told: TypeAlias = "Callable[[bool], None]"
"""Told, when a model call has ended, whether it failed."""
Observed: TypeAlias = "Callable[[str, Span, Context | None], Told | None]"

_PREFIX = "opentelemetry-instrumentation-genai-"
# Those that came before the common prefix.
_OLDER = frozenset(
    f"opentelemetry-instrumentation-{name}"
    for name in ("openai-v2", "openai-agents-v2", "anthropic", "google-genai", "vertexai", "langchain", "weaviate")
)


def installed(points: Collection[EntryPoint] | None = None) -> Iterator[EntryPoint]:
    """Yield the entry points of installed gen_ai instrumentations."""
    for point in points if points is not None else entry_points("opentelemetry_instrumentor"):
        distribution = name_of(point.dist).lower().replace("_", "-")
        if distribution.startswith(_PREFIX) or distribution in _OLDER:
            yield point


def switch_on(point: EntryPoint, tracers: TracerProvider) -> tuple[str, Callable[[], Any] | None]:
    """Switch one on, with these tracers. Returns what to say of it, and what switches it off if we switched it on."""
    instrumentor = point.load()()
    if instrumentor.is_instrumented_by_opentelemetry:
        return "instrumented", None
    # Without its client library there is a conflict of dependencies, which it would log as an error.
    if instrumentor._check_dependency_conflicts() is not None:
        return "skipped", None
    instrumentor.instrument(skip_dep_check=True, tracer_provider=tracers)
    return "instrumented", instrumentor.uninstrument


_OPERATION = "gen_ai.operation.name"
_MODEL = "gen_ai.request.model"
_CALLS = frozenset(("chat", "text_completion", "generate_content", "embeddings"))
# These have model calls inside, or none.
_AROUND = frozenset(("invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "retrieval", "plan"))


def model_of(name: str, attributes: Mapping[str, Any] | None) -> str | None:
    """Return the model whose call a span stands for; None where the span stands for something else.

    `opentelemetry-util-genai` starts its spans without attributes: then their name, `{operation} {model}`, tells.
    """
    given = attributes or {}
    operation, _, rest = name.partition(" ")
    said, model = given.get(_OPERATION), given.get(_MODEL)
    if said in _AROUND or (said is None and operation not in _CALLS and (model is None or operation in _AROUND)):
        return None
    found = model or (rest if operation == said or said is None else None)
    return found if isinstance(found, str) and found and found != "None" else OTHER


def _readable(name: str, attributes: Any) -> str | None:
    try:
        return model_of(name, attributes)
    except Exception:
        raise_theirs()
        return None  # Names and attributes are others': what cannot be read is no model call.


class ObservedTracers(TracerProvider):
    """The provider in force, for these instrumentations: each model call is told when its span starts, sampled or not.

    A span processor would see only those that are recorded.

    Args:
        provider: the one in force now; the application may set another one later.
        observed: told of each call: (model, span, the context that was given with it). It returns what is to be told
            whether the call failed, when it has ended. Neither raises.
    """

    def __init__(self, provider: Callable[[], Any], observed: Observed) -> None:
        self._provider = provider
        self._observed = observed

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """Return a tracer of the provider in force."""
        return _ObservedTracer(self._provider, self._observed, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if "_provider" not in vars(self):
            raise AttributeError(name)  # While it is copied.
        return getattr(self._provider(), name)


_USE_SPAN = getattr(inspect.unwrap(use_span), "__code__", None)


class _Unrecorded(NonRecordingSpan):
    """Stands in for a span that is not recorded: such a one does not know whether what it is of has failed."""

    def __init__(self, context: SpanContext) -> None:
        super().__init__(context)
        self.told: Callable[[bool], None] | None = None
        self._failed = False
        self._handled = sys.exc_info()[1]

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Remember whether it is an error."""
        del description
        try:
            self._failed = getattr(status, "status_code", status) is StatusCode.ERROR
        except Exception:
            step_aside("inference")

    def end(self, end_time: int | None = None) -> None:
        """Tell, once."""
        del end_time
        try:
            told, self.told = self.told, None
            if told is not None:
                # `use_span` gives no status to such a span: it ends it on its way out, while the exception is under
                # way. Whoever else ends it may do so in the handler of a `StopIteration`, at the end of a stream.
                under_way = sys.exc_info()[1] if sys._getframe(1).f_code is _USE_SPAN else None
                told(self._failed or (under_way is not None and under_way is not self._handled))
        except Exception:
            step_aside("inference")


def _observe(span: Span, observed: Callable[[Span, Context | None], Told | None], context: Context | None) -> Span:
    """Tell of a model call's beginning, and of its end when it comes. Returns the span to be used."""
    if not span.is_recording():
        unrecorded = _Unrecorded(span.get_span_context())
        unrecorded.told = observed(unrecorded, context)
        return unrecorded
    told = observed(span, context)
    if told is not None:
        _tell_at_end(span, told)
    return span


def _tell_at_end(span: Any, told: Told) -> None:
    original = span.end

    def telling(end_time: int | None = None) -> None:
        try:
            vars(span).pop("end", None)  # Or span and function would hold each other.
        except Exception:
            step_aside("inference")
        original(end_time)
        try:
            told(getattr(getattr(span, "status", None), "status_code", None) is StatusCode.ERROR)
        except Exception:
            step_aside("inference")

    try:
        span.end = telling
    except AttributeError:
        told(False)  # Of another SDK, whose spans cannot be followed.


class _ObservedTracer(Tracer):
    __slots__ = ("_args", "_kwargs", "_made", "_observed", "_provider")

    def __init__(
        self,
        provider: Callable[[], Any],
        observed: Observed,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._provider = provider
        self._observed = observed
        self._args, self._kwargs = args, kwargs
        self._made: tuple[Any, Any] = (None, None)
        self._current()

    def _current(self) -> Any:
        of, tracer = self._made
        provider = self._provider()
        if provider is not of:
            tracer = provider.get_tracer(*self._args, **self._kwargs)
            self._made = provider, tracer
        return tracer

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: Any = SpanKind.INTERNAL,
        attributes: Any = None,
        *others: Any,
        **more: Any,
    ) -> Span:
        """Start a span as the tracer in force does, and tell of a model call."""
        _, tracer = self._made
        try:
            tracer = self._current()
        except Exception:
            step_aside("inference")
        span: Span = tracer.start_span(name, context, kind, attributes, *others, **more)
        return self._watched(span, name, context, attributes)

    def _watched(self, span: Span, name: str, context: Context | None, attributes: Any) -> Span:
        try:
            model = _readable(name, attributes)
            return span if model is None else _observe(span, functools.partial(self._observed, model), context)
        except Exception:
            step_aside("inference")
        return span

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: Any = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = (),
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - as the API has it
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002
        end_on_exit: bool = True,  # noqa: FBT001, FBT002
    ) -> Iterator[Span]:
        """Start a span and make it current, as the SDK's tracer does."""
        span = self.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        with use_span(span, end_on_exit, record_exception, set_status_on_exception) as current:
            yield current

    def __getattr__(self, name: str) -> Any:
        if name in _ObservedTracer.__slots__:
            raise AttributeError(name)  # While it is copied.
        return getattr(self._current(), name)
