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
    from otel_pipeline.detectors.environments import ForeignEnvironmentError as ForeignEnvironmentError
    from otel_pipeline.detectors.report import Health as Health
    from otel_pipeline.detectors.require_fresh import StaleDataError as StaleDataError
    from otel_pipeline.detectors.require_fresh import require_fresh as require_fresh
    from otel_pipeline.engine import fan_in as flow
    from otel_pipeline.engine.flow import current as current
    from otel_pipeline.engine.inference import inference as inference
    from otel_pipeline.engine.processing import process as process
    from otel_pipeline.pipeline import Pipeline as Pipeline
    from otel_pipeline.pipeline import health as health
    from otel_pipeline.pipeline import instrument as instrument
    from otel_pipeline.status import Status as Status

_HOMES = {
    "ConfigError": "otel_pipeline.config",
    "ForeignEnvironmentError": "otel_pipeline.detectors.environments",
    "Health": "otel_pipeline.detectors.report",
    "Pipeline": "otel_pipeline.pipeline",
    "StaleDataError": "otel_pipeline.detectors.require_fresh",
    "Status": "otel_pipeline.status",
    "current": "otel_pipeline.engine.flow",
    "health": "otel_pipeline.pipeline",
    "inference": "otel_pipeline.engine.inference",
    "instrument": "otel_pipeline.pipeline",
    "process": "otel_pipeline.engine.processing",
    "require_fresh": "otel_pipeline.detectors.require_fresh",
}

_MODULES = {"flow": "otel_pipeline.engine.fan_in"}

__all__ = [
    "ConfigError",
    "ForeignEnvironmentError",
    "Health",
    "Pipeline",
    "StaleDataError",
    "Status",
    "__version__",
    "current",
    "flow",
    "health",
    "inference",
    "instrument",
    "process",
    "require_fresh",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(_MODULES[name])
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
