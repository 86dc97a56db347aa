"""Stands around a model's method: its outermost call is a model call, and what the method calls inside is none."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.current_context import get_current
from otel_pipeline.engine.delivery import DELIVERY_KEY
from otel_pipeline.engine.inference import INFERENCE_KEY
from otel_pipeline.engine.model_objects import UNKNOWN, models
from otel_pipeline.engine.origin import MAX_AGE_MS
from otel_pipeline.engine.prepared import Called, inside
from otel_pipeline.engine.scope import NOTHING, decorate, finish
from otel_pipeline.engine.spans import SPAN_KEY
from otel_pipeline.engine.trace_context import LightSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.inference import InferenceCall, Inferences
    from otel_pipeline.engine.model_objects import Identity
    from otel_pipeline.engine.prepared import Prepared
    from otel_pipeline.engine.scope import Scope
    from otel_pipeline.engine.totals import AttributeValue

    CountRows = Callable[[tuple[Any, ...], dict[str, Any]], int | None]
    Method = Callable[..., Any]
    DeviceOf = Callable[[tuple[Any, ...], dict[str, Any]], str | None]
    Describe = Callable[[str, Any, tuple[Any, ...], dict[str, Any], Any], dict[str, AttributeValue]]

_SAMPLED = 1
_MAX_AGE_S = MAX_AGE_MS / 1000


class ModelMethods:
    """Wraps the methods of one library.

    Args:
        inferences: where calls are begun and counted.
        guard: counts what fails here, at the library's place.
        library: its name on spans, or what tells it of a model.
        place: where its failures are counted.
        of_library: what the library knows of a model.
        inner: the models that one consists of.
        otherwise: names one of which nothing else is known, where its class would say too little.
    """

    def __init__(
        self,
        inferences: Inferences,
        guard: Guard,
        library: str | Callable[[Any], str],
        place: str,
        of_library: Callable[[Any], Identity] | None = None,
        inner: Callable[[Any], Iterable[Any]] | None = None,
        otherwise: Callable[[Any], str] | None = None,
    ) -> None:
        self.inferences = inferences
        self.place = guard.place(place)
        self._name_place = guard.place(f"{place}.name")
        self._rows_place = guard.place(f"{place}.rows")
        self._library = library
        self._of_library, self._inner, self._otherwise = of_library, inner, otherwise

    def learner(
        self, operation: str, clock: str | None = None
    ) -> tuple[dict[int, Prepared], Callable[[Any], Prepared]]:
        """Return what is prepared for calls of this operation, by the model's id, and what prepares a model's."""
        known, place = models.table(), self._name_place

        def learn(model: Any) -> Prepared:
            identity, library = UNKNOWN, self._library if isinstance(self._library, str) else place.name
            try:
                identity = models.identity(model, self._of_library, self._inner, self._otherwise)
                library = library if isinstance(self._library, str) else self._library(model)
            except Exception:
                place.failed()
            name = identity.name or type(model).__name__
            prepared = self.inferences.prepared(Called(name, operation, identity.version, library, clock))
            models.keep(known, model, prepared, identity)
            return prepared

        return known, learn

    def counting(self, count_rows: CountRows) -> CountRows:
        """Return the function, safe: None where it fails."""
        place = self._rows_place

        def counted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
            try:
                return None if place.off else count_rows(args, kwargs)
            except Exception:
                place.failed()
                return None

        return counted

    def around(  # noqa: C901, PLR0915 - see `call`
        self,
        operation: str,
        count_rows: CountRows,
        method: Method,
        describe: Describe | None = None,
        clock: str | None = None,
        device_of: DeviceOf | None = None,
    ) -> Method:
        """Return the method with a model call around it.

        Args:
            operation: what spans call it.
            count_rows: counts them in positional and keyword arguments, without touching the data.
            method: a plain function of the model and its arguments.
            device_of: tells of positional and keyword arguments where a recorded call runs.
            clock: whose clock durations are of, where the library has two.
            describe: what else its span is to have, given the model's name, the model, arguments and result.
        """
        inferences, place = self.inferences, self.place
        known, learn = self.learner(operation, clock)
        rows_of, begin, leave, ended = self.counting(count_rows), self._begin_on(device_of), self._leave, self._ended
        failed, described, place_of = place.failed, self._described, self._place_of
        # Nothing below an unsampled span is recorded: then one question is enough, whether anything is on top of it.
        may_be_short = inferences.spans.drops_unsampled
        monotonic_ns, clock_ns = inferences.monotonic_ns, inferences.clock_ns

        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - one call's path in one place
            prepared: Prepared | None = None
            opened: InferenceCall | None = None
            delivery: Any = None
            rows, started_ns = None, 0
            try:
                if inside.model is None and inferences.active and not place.off:
                    prepared = known.get(id(self)) or learn(self)
                if prepared is not None:
                    rows, context, is_short = rows_of(args, kwargs), get_current(), False
                    delivery = context.get(DELIVERY_KEY)
                    if delivery is not None and context is not delivery.own:
                        # A step of a loop over a batch becomes what it stands for when it is looked at.
                        context = get_current()
                    if may_be_short and delivery is not None and context is delivery.own and not delivery.ended:
                        span: Any = context.get(SPAN_KEY)
                        is_short = type(span) is LightSpan and not (span.flags & _SAMPLED or INFERENCE_KEY in context)
                    if not is_short:
                        opened = begin(prepared, rows, args, kwargs)
                        prepared = None if opened is None else prepared
                    if prepared is not None:
                        inside.model = prepared.model
                        started_ns = monotonic_ns()
            except Exception:
                prepared = None
                failed(leave, opened)
            if prepared is None:
                return method(self, *args, **kwargs)
            try:
                result = method(self, *args, **kwargs)
            except BaseException as error:
                place.told(leave, None)
                if opened is not None:
                    finish(place_of, opened, error)
                place.told(ended, prepared, opened, started_ns, rows, error)
                raise
            try:
                inside.model = None
                if opened is not None:
                    described(describe, prepared, opened, self, args, kwargs, result)
                    leave(opened)
                    return result
                elapsed_ns = monotonic_ns() - started_ns
                mine = prepared.mine
                mine.duration(elapsed_ns / 1e9)
                if rows:
                    (mine.rows or prepared.row_cell()).value += rows
                decided = prepared.decided
                if decided is None:
                    return result
                now_ns, origin_ms = clock_ns(), (delivery.known_origin or delivery.origin).origin_ms
                age_s = now_ns / 1e9 - origin_ms / 1e3
                if delivery.members is not None or not decided.is_plain or not 0 <= age_s <= _MAX_AGE_S:
                    inferences.decide(prepared, rows, now_ns, delivery)
                    return result
                destination = delivery.state.destination
                record = mine.ages.get(destination)
                if record is None:
                    record = mine.ages[destination] = decided.cells_of(destination).cell.record
                record(age_s)
            except Exception:
                failed(leave, opened)
            return result

        return call

    def streamed(self, operation: str, count_rows: CountRows, method: Method) -> Method:
        """Return a generator function with a model call around all that it yields, from the first item to its end."""
        inferences, place = self.inferences, self.place
        known, learn = self.learner(operation)
        rows_of = self.counting(count_rows)

        def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scope:
            if not args or inside.model is not None or not inferences.active or place.off:
                return NOTHING
            prepared = known.get(id(args[0])) or learn(args[0])
            return self.begin(prepared, rows_of(args[1:], kwargs)) or NOTHING

        return decorate(method, opened, lambda: place)

    def _begin_on(self, device_of: DeviceOf | None) -> Callable[[Prepared, int | None, Any, Any], InferenceCall | None]:
        """Make what begins a call that is recorded, or in a context that is not just a delivery's."""

        def begin(prepared: Prepared, rows: int | None, args: Any, kwargs: Any) -> InferenceCall | None:
            device = None
            if device_of is not None:
                try:
                    device = device_of(args, kwargs)
                except Exception:
                    self._rows_place.failed()
            return self.begin(prepared, rows, device)

        return begin

    def _described(
        self,
        describe: Describe | None,
        prepared: Prepared,
        call: InferenceCall,
        model: Any,
        args: Any,
        kwargs: Any,
        result: Any,
    ) -> None:
        """Say on its span what else is known of a call; never raises."""
        if describe is None or call.span is None:
            return
        try:
            if call.span.is_recording():
                call.span.set_attributes(describe(prepared.model, model, args, kwargs, result))
        except Exception:
            self._rows_place.failed()

    def _leave(self, call: InferenceCall | None) -> None:
        """End a call that has succeeded, or could not begin as a whole."""
        inside.model = None
        if call is not None:
            finish(self._place_of, call, None)

    def _ended(
        self, prepared: Prepared, call: InferenceCall | None, started_ns: int, rows: int | None, error: BaseException
    ) -> None:
        """Count a call that has failed, where it was not opened."""
        inside.model = None  # Once more: nothing would be counted in this thread any more.
        if call is None:
            prepared.count(self.inferences.monotonic_ns() - started_ns, rows, error)

    def _place_of(self) -> Place:
        return self.place

    def begin(self, prepared: Prepared, rows: int | None, device: str | None = None) -> InferenceCall | None:
        """Begin a call; None inside of another one, and where it cannot be."""
        try:
            return None if get_current().get(INFERENCE_KEY) else self.inferences.open(prepared.called, rows, device)
        except Exception:
            self.place.failed()
            return None
