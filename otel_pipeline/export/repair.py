"""Copies of spans, log records and metrics in which what no encoder takes is replaced by something that says as much.

Half of a surrogate pair (a file name in another encoding, a text cut in the middle) becomes U+FFFD, an integer of more
than 64 bits its digits, anything else that OTLP has no type for its text. Only what was refused is looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Status

from otel_pipeline.engine.failure import MAX_TEXT_BYTES, cut, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 16
_INT64 = 1 << 63


class Repair:
    """Repairs the items of one batch; `changed` counts those that needed it. For one thread."""

    def __init__(self) -> None:
        self.changed = 0
        self._known: dict[int, tuple[Any, Any]] = {}

    def spans(self, batch: Sequence[Any]) -> list[Any]:
        """Return spans that can be encoded; those that could be are the same objects."""
        return [self._item(span, self._span) for span in batch]

    def logs(self, batch: Sequence[Any]) -> list[Any]:
        """Return log records, as `spans` does spans."""
        return [self._item(record, self._log) for record in batch]

    def points(self, batch: Sequence[Any]) -> list[Any]:
        """Return points of metrics (`batches.Point`), as `spans` does spans."""
        return [self._item(point, self._point) for point in batch]

    def _item(self, item: Any, repaired: Callable[[Any], Any]) -> Any:
        found = repaired(item)
        self.changed += found is not item
        return found

    def _span(self, span: Any) -> Any:
        # What one of ours is made of is made when it is asked for.
        whole = span._readable_span() if isinstance(span, Span) else span
        held = vars(whole)
        repaired = {
            "_name": _value(held["_name"]),
            "_attributes": _attributes(held["_attributes"]),
            "_events": _all(held["_events"], _event),
            "_links": _all(held["_links"], _link),
            "_status": _status(held["_status"]),
            "_resource": self._once(held["_resource"], repaired_resource),
            "_instrumentation_scope": self._once(held["_instrumentation_scope"], repaired_scope),
        }
        if all(held[name] is value for name, value in repaired.items()):
            return span
        made = copy.copy(whole)
        made.__dict__.update(repaired)
        return made

    def _log(self, data: Any) -> Any:
        record = data.log_record
        made = copy.copy(record)
        for name in ("body", "severity_text", "event_name"):
            if hasattr(record, name):
                setattr(made, name, _value(getattr(record, name)))
        made.attributes = _attributes(record.attributes)
        if getattr(record, "resource", None) is not None:  # There up to SDK 1.38.
            made.resource = self._once(record.resource, repaired_resource)
        same = all(vars(made)[name] is value for name, value in vars(record).items())
        given = {
            "log_record": record if same else made,
            "instrumentation_scope": self._once(data.instrumentation_scope, repaired_scope),
        }
        if getattr(data, "resource", None) is not None:
            given["resource"] = self._once(data.resource, repaired_resource)
        if all(getattr(data, name) is value for name, value in given.items()):
            return data
        copied = copy.copy(data)
        copied.__dict__.update(given)  # A frozen class, and others in other versions.
        return copied

    def _point(self, point: Any) -> Any:
        attributes = _attributes(point.data.attributes)
        data = point.data if attributes is point.data.attributes else replace(point.data, attributes=attributes)
        exemplars = _all(getattr(data, "exemplars", None), _exemplar)
        if exemplars is not getattr(data, "exemplars", None):
            data = replace(data, exemplars=exemplars)
        metric = self._once(point.metric, _metric)
        resource, scope = self._once(point.resource, repaired_resource), self._once(point.scope, repaired_scope)
        if data is point.data and metric is point.metric and resource is point.resource and scope is point.scope:
            return point
        return point._replace(data=data, metric=metric, resource=resource, scope=scope)

    def _once(self, shared: Any, repaired: Callable[[Any], Any]) -> Any:
        """Repair once what many items share, so that they share it still."""
        known = self._known.get(id(shared))
        if known is None:
            known = self._known[id(shared)] = (shared, shared if shared is None else repaired(shared))
        return known[1]


def _value(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one return a type
    """Return the value itself where it can be encoded."""
    if value is None or isinstance(value, bool | float | bytes):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else _digits(value)
    if depth >= MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    if isinstance(value, Mapping):
        return _attributes(value, depth + 1)
    if isinstance(value, Sequence):
        return _all(value, lambda each: _value(each, depth + 1))
    return text_of(value)


def _digits(value: int) -> str:
    # More of them cost time that grows with their square, and Python refuses to write them.
    return str(value) if value.bit_length() <= MAX_TEXT_BYTES else f"an integer of {value.bit_length()} bits"


def _text(text: str) -> str:
    """Return the text with each half of a surrogate pair replaced, and cut; the same object where there is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return cut(text)
    return text


def _attributes(attributes: Any, depth: int = 0) -> Any:
    if not attributes:
        return attributes
    made = {_text(key) if isinstance(key, str) else str(key): _value(value, depth) for key, value in attributes.items()}
    if all(made.get(key, made) is value for key, value in attributes.items()):
        return attributes
    if not isinstance(attributes, BoundedAttributes):
        return made
    bounded = BoundedAttributes(attributes=made)
    bounded.dropped = attributes.dropped
    return bounded


def _all(items: Any, repaired: Callable[[Any], Any]) -> Any:
    if not items:
        return items
    made = [repaired(item) for item in items]
    if all(one is other for one, other in zip(made, items, strict=True)):
        return items
    if isinstance(items, BoundedList):
        bounded = BoundedList.from_seq(len(made), made)
        bounded.dropped = items.dropped
        return bounded
    return made


def _event(event: Any) -> Any:
    name, attributes = _value(event.name), _attributes(event.attributes)
    if name is event.name and attributes is event.attributes:
        return event
    made = copy.copy(event)
    made.__dict__.update(_name=name, _attributes=attributes)
    return made


def _link(link: Any) -> Any:
    held = link.attributes  # Some make them anew each time.
    attributes = _attributes(held)
    return link if attributes is held else Link(link.context, attributes)


def _status(status: Any) -> Any:
    described = _value(status.description)
    return status if described is status.description else Status(status.status_code, described)


def _exemplar(exemplar: Any) -> Any:
    attributes = _attributes(exemplar.filtered_attributes)
    return exemplar if attributes is exemplar.filtered_attributes else replace(exemplar, filtered_attributes=attributes)


def _metric(metric: Any) -> Any:
    texts = {name: _value(getattr(metric, name)) for name in ("name", "description", "unit")}
    same = all(getattr(metric, name) is text for name, text in texts.items())
    return metric if same else replace(metric, **texts)


def repaired_resource(resource: Any) -> Any:
    """Return a resource that can be encoded; the same object where it could be."""
    attributes = _attributes(resource.attributes)
    return resource if attributes is resource.attributes else Resource(dict(attributes), resource.schema_url)


def repaired_scope(scope: Any) -> Any:
    """Return a scope that can be encoded; the same object where it could be."""
    texts = [_value(each) for each in (scope.name, scope.version, scope.schema_url)]
    attributes = _attributes(getattr(scope, "attributes", None))
    same = attributes is getattr(scope, "attributes", None)
    if same and all(
        one is other for one, other in zip(texts, (scope.name, scope.version, scope.schema_url), strict=True)
    ):
        return scope
    name, version, schema_url = texts
    return InstrumentationScope(name, version, schema_url, attributes)
