"""What stdlib logging and loguru have in common: trace fields for each record, and making OTel logs of records."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import _logs, context, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk.resources import Resource

from otel_pipeline.engine.failure import text_of, type_name
from otel_pipeline.export.log_values import attribute, message, stack
from otel_pipeline.semconv import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType, TracebackType

    from opentelemetry._logs import LoggerProvider

    from otel_pipeline.engine.totals import Problem

FIELDS = ("trace_id", "span_id", "trace_flags", "deployment_environment_name")

# Semantic conventions, "code".
CODE_FILE_PATH = "code.file.path"
CODE_FUNCTION_NAME = "code.function.name"
CODE_LINE_NUMBER = "code.line.number"

_DEPTH = 24
_SEVERITIES = ((50, 21), (40, 17), (30, 13), (20, 9), (10, 5))
_LEVELS = {
    "NOTSET": 0,
    "TRACE": 5,
    "DEBUG": 10,
    "INFO": 20,
    "SUCCESS": 25,
    "WARN": 30,
    "WARNING": 30,
    "ERROR": 40,
    "FATAL": 50,
    "CRITICAL": 50,
}


class Entry(NamedTuple):
    """One message, whichever library it came through."""

    scope: str
    time_ns: int | None
    level_number: int
    level_name: str
    body: str
    path: str
    function: str | None
    line: int
    exception: tuple[type[BaseException] | None, BaseException | None, TracebackType | None] | None
    extra: Mapping[str, Any]


class _Thread(threading.local):
    emitting: FrameType | None = None
    """Where this thread emits a record."""


_thread = _Thread()


def level_number(level: int | str, problem: Problem) -> int:
    """Return the level as a number; a name that neither library knows is reported, and means INFO."""
    if isinstance(level, int):
        return level
    known = _LEVELS.get(level.strip().upper())
    if known is None:
        problem("logs.level", f"the log level {level!r} is none of {', '.join(_LEVELS)}; INFO is used")
    return _LEVELS["INFO"] if known is None else known


def current_fields(environment: str | None) -> dict[str, str]:
    """Return the current fields, as OpenTelemetry writes trace context in other log formats."""
    fields = {"deployment_environment_name": environment} if environment else {}
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN:
        return fields
    span_context = span.get_span_context()
    if span_context.is_valid:
        fields["trace_id"] = f"{span_context.trace_id:032x}"
        fields["span_id"] = f"{span_context.span_id:016x}"
        fields["trace_flags"] = f"{span_context.trace_flags:02x}"
    return fields


def unwanted() -> bool:
    """Tell whether this thread is exporting: what it logs meanwhile would be exported for ever."""
    return (_thread.emitting is not None and _emits(_thread.emitting)) or bool(
        context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY) or context.get_value("suppress_instrumentation")
    )


def _emits(emission: FrameType) -> bool:
    """Tell whether that call is still under way: an exception of the application may have ended it at any line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame is emission:
            return True
        frame = frame.f_back
    _thread.emitting = None
    return False


def called_by(modules: frozenset[str], functions: frozenset[str]) -> bool:
    """Tell whether one of these functions of these modules is among the nearer callers."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if frame.f_code.co_name in functions and frame.f_globals.get("__name__") in modules:
            return True
        frame = frame.f_back
    return False


class Emission:
    """Emits entries as OTel logs. Callers ask `unwanted()` first, and count what is raised."""

    def __init__(self, provider: LoggerProvider, environment: str | None, level: int) -> None:
        self.level = level
        self._provider = provider
        self._environment = environment
        self._new_record = _new_record()

    def emit(self, make: Callable[[Any], Entry], source: Any) -> None:
        """Emit the entry that `make(source)` returns, in the current context."""
        _thread.emitting = sys._getframe()
        try:
            entry = make(source)
            logger, now_ns = self._provider.get_logger(text_of(entry.scope)), time.time_ns()
            logger.emit(
                self._new_record(
                    logger,
                    timestamp=entry.time_ns or now_ns,
                    observed_timestamp=now_ns,
                    severity_text=text_of(entry.level_name),
                    severity_number=_NUMBERS[_severity(entry.level_number)],
                    body=message(entry.body),
                    attributes=self._attributes(entry),
                )
            )
        finally:
            _thread.emitting = None

    def _attributes(self, entry: Entry) -> dict[str, Any]:
        ours = current_fields(self._environment)
        attributes: dict[str, Any] = {
            text_of(name): attribute(value)
            for name, value in entry.extra.items()
            if value is not None and not (name in FIELDS and type(value) is str and value == ours.get(name, ""))
        }
        attributes[CODE_FILE_PATH] = text_of(entry.path)
        attributes[CODE_LINE_NUMBER] = attribute(entry.line)
        if entry.function:
            attributes[CODE_FUNCTION_NAME] = text_of(entry.function)
        if entry.exception:
            kind, error, frames = entry.exception
            if kind is not None:
                attributes[EXCEPTION_TYPE] = type_name(kind)
                attributes[EXCEPTION_STACKTRACE] = stack(kind, error, frames)
            if error is not None:
                attributes[EXCEPTION_MESSAGE] = text_of(error)
        return attributes


_NUMBERS = {number.value: number for number in SeverityNumber}


def _severity(level: int) -> int:
    """Return the severity number: OpenTelemetry has four per level, both libraries leave room for ten."""
    for lowest, number in _SEVERITIES:
        if level >= lowest:
            return number + min(level - lowest, 3)
    return 1 if level > 0 else 0  # below DEBUG lies loguru's TRACE


def _new_record() -> Callable[..., Any]:
    """Return what makes log records as the installed SDK wants them: its own class up to 1.38, with ids up to 1.34."""
    try:
        from opentelemetry.sdk._logs import LogRecord as kind  # type: ignore[attr-defined] # noqa: N813
    except ImportError:
        kind = _logs.LogRecord
    known = inspect.signature(kind.__init__).parameters

    def new_record(logger: Any, **values: Any) -> Any:
        if "resource" in known:
            values["resource"] = getattr(logger, "resource", None) or Resource.get_empty()
        if "context" in known:
            return kind(context=context.get_current(), **values)
        span_context = trace.get_current_span().get_span_context()
        return kind(
            trace_id=span_context.trace_id,
            span_id=span_context.span_id,
            trace_flags=span_context.trace_flags,
            **values,
        )

    return new_record
