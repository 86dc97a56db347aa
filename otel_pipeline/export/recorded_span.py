"""A recorded span of ours: the SDK's own class, made of a few slots, whose other fields are made when somebody looks.

The SDK's constructor is most of what a span costs: attributes, events, links, a lock, a SpanContext. Most spans
need none before they are exported, and then to be read once.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor
from opentelemetry.trace import SpanContext, TraceFlags

from otel_pipeline.engine.span_shape import ShapedSpan
from otel_pipeline.engine.trace_context import LightLink, LightSpan
from otel_pipeline.export.data_age import DataAge
from otel_pipeline.export.processors import TakesRecorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link
    from opentelemetry.trace.span import TraceState

    from otel_pipeline.engine.span_shape import SpanShape, Values
    from otel_pipeline.engine.totals import AttributeValue

FLAGS = tuple(map(TraceFlags, range(256)))
_SAMPLED = 1
_RLOCK = type(threading.RLock())


class RecordedSpan(ShapedSpan, SdkSpan):
    """What `CompiledSpans` makes, through `class_for` alone.

    Whatever the SDK's methods and exporters read is made when it is missed, and kept in the instance's dictionary:
    `setdefault` gives all threads the same one.
    """

    __slots__ = (
        "_end_time",
        "_start_time",
        "above",
        "flags",
        "given_links",
        "is_plain",
        "more",
        "read_state",
        "shape",
        "span_id",
        "trace_id",
        "values",
    )

    trace_id: int
    span_id: int
    flags: int
    read_state: Callable[[], TraceState | None] | None
    shape: SpanShape
    values: Values
    more: Mapping[str, AttributeValue] | None
    """Attributes that only some spans of the shape have."""
    above: Any
    """The parent: a SpanContext, a span that is no more than ids, or None for a root."""
    given_links: tuple[Link | LightSpan, ...]
    is_plain: bool
    """Whether nobody has looked at, or changed, more than there is in slots."""

    # What is the same for all spans of one tracer; `class_for` sets it.
    parts: Parts
    processors: Processors

    def end_with(self, values: Values, end_time: int) -> None:
        """Set the values that are not None, and end it."""
        if self._end_time is None:
            self.values = values = merged_values(self.values, values) if None in values else values
            if not self.is_plain:
                for name, value in zip(self.shape.names, values, strict=False):
                    if value is not None:
                        self.set_attribute(name, value)
        self.end(end_time)

    def end(self, end_time: int | None = None) -> None:
        """End it, at ns since the epoch, now when left out."""
        end_ns = time_ns() if end_time is None else end_time
        # No call stands between the questions and the answer, so no other thread either: the interpreter changes
        # threads at calls and jumps backwards.
        if self.is_plain and self._end_time is None:
            self._end_time = end_ns
        elif not self._end_touched(end_ns):
            super().end(end_ns)  # It says that it has ended.
            return
        processors = self.processors
        if (
            processors.take is not None
            and processors.multi._span_processors is processors.seen
            and self.flags & _SAMPLED
        ):
            processors.take(self)
        else:
            processors.end(self)

    def _end_touched(self, end_ns: int) -> bool:
        """End a span that somebody may be changing at this moment; false where it has ended already."""
        with self._lock:
            if self._end_time is not None:
                return False
            self._end_time = end_ns
            kept: Any = self._attributes
            kept._immutable = True
            return True

    def discard(self) -> None:
        """End it, not sampled: processors see that it is over, and nobody exports it."""
        self.flags &= ~_SAMPLED
        self.__dict__.pop("_context", None)
        self.end()

    def get_span_context(self) -> SpanContext:
        """Return ids, flags and tracestate."""
        found: SpanContext = self._context  # type: ignore[assignment] # it is never None here
        return found

    def _make_context(self) -> SpanContext:
        state = None if self.read_state is None else self.read_state()
        return SpanContext(self.trace_id, self.span_id, False, FLAGS[self.flags & 0xFF], state)

    def _make_lock(self) -> Any:
        # Whatever changes a span takes its lock first. From now on its end waits for that: otherwise what is being
        # changed would be no longer to be changed, and that raises.
        self.is_plain = False
        return threading.Lock()

    def _make_parent(self) -> SpanContext | None:
        above = self.above
        found: SpanContext | None = above if above is None or type(above) is SpanContext else above.get_span_context()
        return found

    def _make_attributes(self) -> Any:
        self.is_plain = False
        return self.parts.attributes(self.shape.all(self.values, self.more), immutable=self._end_time is not None)

    def _make_events(self) -> Any:
        self.is_plain = False
        return self.parts.events()

    def _make_links(self) -> Any:
        self.is_plain = False
        return self.parts.links([LightLink(each) if isinstance(each, LightSpan) else each for each in self.given_links])


def merged_values(before: Values, values: Values) -> Values:
    """Return the values, those from before where there is no newer one."""
    if not before:
        return values
    return tuple(old if new is None else new for old, new in zip(before, values, strict=True))


class Processors:
    """The span processors of a provider: whether all are ours, and how ended spans get to them. Safe in any thread."""

    def __init__(self, multi: Any) -> None:
        self.multi = multi
        self.seen: Any = None
        self.are_foreign = True
        self.take: Callable[[Any], None] | None = None
        """Takes a span that has ended, and is sampled, where only one processor wants it, and that is ours."""
        self.take_all: Callable[[list[Any]], None] | None = None
        """Takes several of them."""
        self._takes: tuple[Callable[[Any], None], ...] = ()
        self._look()

    def _look(self) -> None:
        found = self.multi._span_processors
        ours = type(self.multi) is SynchronousMultiSpanProcessor and all(isinstance(each, _OURS) for each in found)
        self._takes = tuple(each.take for each in found if isinstance(each, TakesRecorded))
        takers = [each for each in found if isinstance(each, TakesRecorded)]
        only = takers[0] if ours and len(takers) == 1 else None
        self.take = None if only is None else only.take
        self.take_all = None if only is None else only.take_all
        self.are_foreign = not ours
        self.seen = found  # Last: who finds it finds the rest.

    def have_others(self) -> bool:
        """Tell whether one of them is not ours."""
        if self.multi._span_processors is not self.seen:
            self._look()
        return self.are_foreign

    def start(self, span: RecordedSpan, context: Context) -> None:
        """Tell of a span that has started."""
        if self.have_others():
            self.multi.on_start(span, parent_context=context)

    def end(self, span: RecordedSpan) -> None:
        """Hand on a span that has ended."""
        if self.multi._span_processors is not self.seen:
            self._look()
        if not self.are_foreign:
            if span.flags & _SAMPLED:  # Not discarded.
                for take in self._takes:
                    take(span)
            return
        ending = getattr(self.multi, "_on_ending", None)
        if ending is not None:
            ending(span)
        self.multi.on_end(span._readable_span())


_OURS = (TakesRecorded, DataAge)
"""`DataAge` looks at spans of other instrumentations alone."""


class _Made:
    """A field of the SDK's that is made when it is missed; what is set on a span itself goes before it.

    No `__getattr__` does that: each look at a slot would take ten times as long.
    """

    __slots__ = ("_make", "_name")

    def __init__(self, name: str, make: Callable[[RecordedSpan], Any]) -> None:
        self._name, self._make = name, make

    def __get__(self, span: RecordedSpan | None, _owner: type | None = None) -> Any:
        return self if span is None else span.__dict__.setdefault(self._name, self._make(span))


class _OfShape:
    """A field of the SDK's that the shape has, until it is set on a span itself."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, span: RecordedSpan | None, _owner: type | None = None) -> Any:
        return self if span is None else getattr(span.shape, self._name)


_MADE: dict[str, _Made | _OfShape] = {
    name: _Made(name, make)
    for name, make in (
        ("_attributes", RecordedSpan._make_attributes),
        ("_context", RecordedSpan._make_context),
        ("_events", RecordedSpan._make_events),
        ("_links", RecordedSpan._make_links),
        ("_lock", RecordedSpan._make_lock),
        ("_parent", RecordedSpan._make_parent),
    )
} | {"_name": _OfShape("name"), "_kind": _OfShape("kind")}


class Parts:
    """Makes what a span keeps as the SDK's constructor does, without looking at each value: they are ours.

    Args:
        template: a span that the SDK has made, with one attribute, `a`, which is 1.
    """

    def __init__(self, template: Any) -> None:
        fields = vars(template)
        attributes = dict(vars(fields["_attributes"]))
        self._new_lock = threading.RLock if isinstance(attributes.pop("_lock"), _RLOCK) else threading.Lock
        if attributes.pop("_dict") != {"a": 1} or "_immutable" not in attributes:
            raise TypeError("attributes are kept otherwise")
        self._attributes, self._attributes_kind = attributes, type(fields["_attributes"])
        self._list_kind = type(fields["_events"])
        self._max_events, self._max_links = fields["_events"]._dq.maxlen, fields["_links"]._dq.maxlen
        self.most_links = sys.maxsize if self._max_links is None else self._max_links
        if set(vars(fields["_events"])) != {"dropped", "_dq", "_lock"}:
            raise TypeError("events are kept otherwise")

    def attributes(self, values: dict[str, AttributeValue], *, immutable: bool) -> Any:
        """Make what keeps these attributes; they are its own from now on."""
        made: Any = object.__new__(self._attributes_kind)
        made.__dict__ = {**self._attributes, "_dict": values, "_lock": self._new_lock(), "_immutable": immutable}
        return made

    def events(self) -> Any:
        """Make what keeps events."""
        return self._list(self._max_events, ())

    def links(self, links: Sequence[Link]) -> Any:
        """Make what keeps these links."""
        return self._list(self._max_links, links)

    def _list(self, maximum: int | None, items: Sequence[Any]) -> Any:
        made: Any = object.__new__(self._list_kind)
        dropped = 0 if maximum is None else max(0, len(items) - maximum)
        made.__dict__ = {"dropped": dropped, "_dq": deque(items, maxlen=maximum), "_lock": threading.Lock()}
        return made


_OWN = (*_MADE, "_start_time", "_end_time")
"""Fields that differ from span to span; the status is the same until it is set."""


def class_for(template: Any, processors: Processors, **others: Any) -> type[RecordedSpan]:
    """Make the class of one tracer's spans. Raises where the SDK builds a span otherwise than we know.

    Args:
        template: see `Parts`; what else it has is the same for all spans, and becomes the class's.
        processors: told of each span that has ended.
        others: fields that are to be other than the template's.
    """
    fields = dict(vars(template))
    for name in _OWN:
        fields.pop(name, None)
    fields.update(others)
    own = {
        "__slots__": (),
        "__module__": __name__,
        "parts": Parts(template),
        "processors": processors,
        **fields,
        **_MADE,
    }
    return type("RecordedSpan", (RecordedSpan,), own)
