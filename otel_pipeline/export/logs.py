"""loguru and standard library logging: trace context in, OTel logs out. Formats and levels stay the application's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry._logs import NoOpLogger

from otel_pipeline.export.log_records import Emission, level_number
from otel_pipeline.export.stdlib_logs import StdlibLogs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import TypeAlias

    from opentelemetry._logs import LoggerProvider

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.export.loguru_logs import LoguruLogs

    WhenImported: TypeAlias = Callable[[str, Callable[[ModuleType], None]], object]


class Connection:
    """Both libraries' logs, connected until `disconnect()`."""

    def __init__(
        self, environment: str | None, emission: Emission | None, guard: Guard, when_imported: WhenImported
    ) -> None:
        self._with = environment, emission, guard.place("logs")
        self._problem = guard.problem
        self._ended = False
        self._parts: list[StdlibLogs | LoguruLogs] = [StdlibLogs(*self._with)]
        when_imported("loguru", self._connect_loguru)

    def _connect_loguru(self, _module: ModuleType) -> None:
        if self._ended:
            return
        try:
            from otel_pipeline.export.loguru_logs import LoguruLogs

            self._parts.append(LoguruLogs(*self._with))
        except Exception as error:
            self._problem("logs.loguru", f"loguru's records carry no trace context: {type(error).__name__}")

    def disconnect(self) -> None:
        """Leave both libraries as they were."""
        self._ended = True
        while self._parts:
            self._parts.pop().disconnect()


def connect(
    logger_provider: LoggerProvider | None,
    environment: str | None,
    *,
    level: int | str,
    guard: Guard,
    when_imported: WhenImported,
) -> Connection:
    """Put trace fields on every record and emit records from `level` up; without a provider, add only the fields.

    loguru is connected once the application imports it, which `when_imported` tells (`Patches.when_imported`).
    """
    emission = None
    if logger_provider is not None and not isinstance(logger_provider.get_logger(__name__), NoOpLogger):
        emission = Emission(logger_provider, environment, level_number(level, guard.problem))
    return Connection(environment, emission, guard, when_imported)
