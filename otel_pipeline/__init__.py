"""One trace from laptop to production for AI on streams.

    import otel_pipeline
    otel_pipeline.instrument()

Everything here is loaded when it is first used (PEP 562), so that importing the package costs nearly nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from otel_pipeline.config import ConfigError as ConfigError
    from otel_pipeline.engine.flow import current as current
    from otel_pipeline.engine.inference import inference as inference
    from otel_pipeline.engine.processing import process as process
    from otel_pipeline.pipeline import Pipeline as Pipeline
    from otel_pipeline.pipeline import instrument as instrument
    from otel_pipeline.status import Status as Status

_HOMES = {
    "ConfigError": "otel_pipeline.config",
    "Pipeline": "otel_pipeline.pipeline",
    "Status": "otel_pipeline.status",
    "current": "otel_pipeline.engine.flow",
    "inference": "otel_pipeline.engine.inference",
    "instrument": "otel_pipeline.pipeline",
    "process": "otel_pipeline.engine.processing",
}

__all__ = ["ConfigError", "Pipeline", "Status", "__version__", "current", "inference", "instrument", "process"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
