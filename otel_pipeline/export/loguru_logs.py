"""loguru: a patcher for the fields and a sink for the export, kept when the application configures its logger.

`Logger.configure` and `Logger.remove` are wrapped, because they replace the patcher and remove every sink.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from loguru import logger

from otel_pipeline.export.log_records import Emission, Entry, called_by, current_fields, unwanted
from otel_pipeline.export.log_values import time_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from loguru import Message, Record

    from otel_pipeline.engine.guard import Place

_KIND: Any = type(logger)
_CORE: Any = getattr(logger, "_core")  # noqa: B009 - not in loguru's type stubs
_LOGGING = frozenset({"logging", "logging.handlers"})
_LOGGING_HANDLES = frozenset({"handle", "callHandlers"})

_connected: list[LoguruLogs] = []


class LoguruLogs:
    """The fields in each record's `extra`, where the application has not bound them; the record emitted too."""

    def __init__(self, environment: str | None, emission: Emission | None, place: Place) -> None:
        self.environment = environment
        self.place = place
        self.emission = emission
        self.active = True
        self._sink: int | None = None
        if emission is not None:
            self._sink = logger.add(
                Sink(self), level=emission.level, format=_bare, filter=_Exported(place), colorize=False, diagnose=False
            )
        with _CORE.lock:
            self._patcher = _CORE.patcher = Patcher(self, _CORE.patcher)
        self._undo = [self._replace("configure", self._configure), self._replace("remove", self._remove)]
        _connected.append(self)

    def disconnect(self) -> None:
        """Restore loguru; the application's own patcher stays."""
        if not self.active:
            return
        self.active = False
        _connected.remove(self)
        while self._undo:
            self._undo.pop()()
        with _CORE.lock:
            if _CORE.patcher is self._patcher:
                _CORE.patcher = self._patcher.inner
        if self._sink is not None:
            if self._sink in _CORE.handlers:
                logger.remove(self._sink)
            self._sink = None

    @staticmethod
    def _replace(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[], None]:
        original = vars(_KIND)[name]
        replacement = wraps(original)(wrap(original))
        setattr(_KIND, name, replacement)

        def undo() -> None:
            if vars(_KIND)[name] is replacement:
                setattr(_KIND, name, original)

        return undo

    def _configure(self, original: Callable[..., Any]) -> Callable[..., Any]:
        place, stay_first = self.place, self._stay_first

        def configure(this: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                answer = original(this, *args, **kwargs)
            except BaseException:
                place.told(stay_first, this)
                raise
            try:
                stay_first(this)
            except Exception:
                place.failed()
            return answer

        return configure

    def _stay_first(self, this: Any) -> None:
        if not self.active or this._core is not _CORE:
            return
        with _CORE.lock:
            if _CORE.patcher is not self._patcher:
                self._patcher = _CORE.patcher = Patcher(self, _CORE.patcher)

    def _remove(self, original: Callable[..., None]) -> Callable[..., None]:
        place = self.place

        def remove(this: Any, handler_id: int | None = None) -> None:
            theirs = None
            try:
                if handler_id is None and self._sink is not None and this._core is _CORE:
                    theirs = [known for known in list(_CORE.handlers) if known != self._sink]
            except Exception:
                place.failed()
            if theirs is None:
                return original(this, handler_id)
            for known in theirs:
                if known in _CORE.handlers:
                    original(this, known)
            return None

        return remove


class Patcher:
    """Adds the fields, then calls the application's own patcher."""

    def __init__(self, logs: LoguruLogs | None, inner: Callable[[Record], None] | None) -> None:
        self.logs = logs
        self.inner = inner

    def __call__(self, record: Record) -> None:
        """Patch one record."""
        logs, original = self.logs, self.inner
        if logs is not None:
            try:
                if logs.active and not logs.place.off:
                    extra, defaults = record["extra"], _CORE.extra
                    for name, value in current_fields(logs.environment).items():
                        # A default that the application configured is there to be replaced; what it bound is not.
                        if name not in extra or (name in defaults and extra[name] == defaults[name]):
                            extra[name] = value
            except Exception:
                logs.place.failed()
        if original is not None:
            original(record)

    def __reduce__(self) -> Any:
        # loguru's logger is pickled when it is handed to a spawned process.
        return _patcher_elsewhere, (self.inner,)


class Sink:
    """Emits what loguru hands it."""

    def __init__(self, logs: LoguruLogs) -> None:
        self._logs = logs

    def __call__(self, message: Message) -> None:
        """Emit one record."""
        try:
            if self._logs.emission is not None and self._logs.active and not self._logs.place.off:
                self._logs.emission.emit(_entry, message.record)
        except Exception:
            self._logs.place.failed()

    def __reduce__(self) -> Any:
        return _sink_elsewhere, ()


def _sink_elsewhere() -> Callable[[Message], None]:
    return _emit_here


def _emit_here(message: Message) -> None:
    # A logger that came from another process: what it logs goes where this process exports, if it does.
    for logs in _connected[-1:]:
        Sink(logs)(message)


def _patcher_elsewhere(inner: Callable[[Record], None] | None) -> Patcher:
    return Patcher(_connected[-1] if _connected else None, inner)


def _bare(record: Record) -> str:  # noqa: ARG001
    return "{message}"


class _Exported:
    """Tells whether a record is exported."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __call__(self, record: Record) -> bool:
        try:
            name = record["name"] or ""
            if self._place.off or name.partition(".")[0] == "opentelemetry" or unwanted():
                return False
            # Handed on by a handler of the standard library's logging: that one's record is exported.
            return not called_by(_LOGGING, _LOGGING_HANDLES)
        except Exception:
            self._place.failed()
            return False


def _time_ns(record: Record) -> int | None:
    try:
        return time_ns(record["time"].timestamp())
    except Exception:
        return None  # A patcher of the application's has put something else there.


def _entry(record: Record) -> Entry:
    exception = record["exception"]
    return Entry(
        scope=record["name"] or "loguru",
        time_ns=_time_ns(record),
        level_number=record["level"].no,
        level_name=record["level"].name,
        body=record["message"],
        path=record["file"].path,
        function=record["function"],
        line=record["line"],
        exception=None if exception is None else (exception.type, exception.value, exception.traceback),
        extra=record["extra"],
    )
