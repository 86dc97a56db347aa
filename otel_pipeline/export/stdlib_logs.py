"""Standard library logging: `Logger.makeRecord` and `Logger.callHandlers` are wrapped.

Not the record factory: what it sets makes `extra={"trace_id": ...}` raise "Attempt to overwrite". Not a handler on the
root logger: with one there `logging.basicConfig()` does nothing, warnings of programs that configure no logging are no
longer printed, and `dictConfig()` removes it.
"""

from __future__ import annotations

import logging
import sys
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from otel_pipeline.export.log_records import FIELDS, Emission, Entry, called_by, current_fields, unwanted
from otel_pipeline.export.log_values import message, time_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Place

_NATURAL = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
_INSTRUMENTATION = frozenset({"otelTraceID", "otelSpanID", "otelTraceSampled", "otelServiceName"})
_KNOWN = _NATURAL | _INSTRUMENTATION
_LOGURU = frozenset({"loguru._handler"})
_LOGURU_WRITES = frozenset({"emit", "_queued_writer"})


class StdlibLogs:
    """The fields on every record that a logger makes; what reaches handlers is emitted too."""

    def __init__(self, environment: str | None, emission: Emission | None, place: Place) -> None:
        self._environment, self._place = environment, place
        self._emission = emission
        self._active = True
        self._undo = [self._replace("makeRecord", self._make_record), self._replace("callHandlers", self._call)]

    def disconnect(self) -> None:
        """Restore the methods. Where somebody has wrapped ours meanwhile, ours only pass on from now."""
        self._active = False
        while self._undo:
            self._undo.pop()()

    @staticmethod
    def _replace(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[], None]:
        original = vars(logging.Logger)[name]
        replacement = wraps(original)(wrap(original))
        setattr(logging.Logger, name, replacement)

        def undo() -> None:
            if vars(logging.Logger)[name] is replacement:
                setattr(logging.Logger, name, original)

        return undo

    def _make_record(self, original: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
        place = self._place

        def make_record(logger: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
            record = original(logger, *args, **kwargs)
            try:
                if self._active:
                    fields = {} if place.off else current_fields(self._environment)
                    # After the application's `extra`, which wins. Always all four: a format with %(trace_id)s must
                    # not fail outside a span.
                    for name in FIELDS:
                        record.__dict__.setdefault(name, fields.get(name, ""))
            except Exception:
                record.__dict__.update({name: "" for name in FIELDS if name not in record.__dict__})
                place.failed()
            return record

        return make_record

    def _call(self, original: Callable[..., None]) -> Callable[..., None]:
        place, emission = self._place, self._emission

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            try:
                wanted = emission is not None and self._active and not place.off and record.levelno >= emission.level
                if wanted and emission is not None and _exported(logger):
                    emission.emit(_entry, record)
            except Exception:
                place.failed()
            original(logger, record)

        return call_handlers


def _exported(logger: logging.Logger) -> bool:
    if logger.name == "otel_pipeline" or logger.name.partition(".")[0] == "opentelemetry" or unwanted():
        return False
    if "loguru" in sys.modules and called_by(_LOGURU, _LOGURU_WRITES):
        return False  # handed on by a loguru sink: loguru's own is exported
    return _heard(logger)


def _heard(logger: logging.Logger) -> bool:
    """Tell whether a handler on the root logger would get it, or another does; not when OpenTelemetry's own does."""
    heard = False
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            kind: Any = type(handler)
            if _is_opentelemetry(kind):
                return False
            heard = heard or not isinstance(handler, logging.NullHandler)
        if not current.propagate:
            return heard
        current = current.parent
    return True


@cache
def _is_opentelemetry(kind: Any) -> bool:
    return any(
        known.__name__ == "LoggingHandler" and known.__module__.startswith("opentelemetry.") for known in kind.__mro__
    )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        return message(record.msg)  # the arguments do not fit; the application's own handlers report that


def _entry(record: logging.LogRecord) -> Entry:
    return Entry(
        scope=record.name,
        time_ns=time_ns(record.created),
        level_number=record.levelno,
        level_name=record.levelname,
        body=_message(record),
        path=record.pathname,
        function=record.funcName,
        line=record.lineno,
        exception=record.exc_info if isinstance(record.exc_info, tuple) else None,
        extra={name: value for name, value in vars(record).items() if name not in _KNOWN},
    )
