"""One trace from laptop to production for AI on streams.

    import otel_pipeline
    otel_pipeline.instrument()

Everything here is loaded when it is first used (PEP 562), so that importing the package costs nearly nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otel_pipeline.garbage import not_looked_for
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from otel_pipeline import flow as flow
    from otel_pipeline.config.config import ConfigError as ConfigError
    from otel_pipeline.detectors.environments import ForeignEnvironmentError as ForeignEnvironmentError
    from otel_pipeline.engine.by_hand import extract as extract
    from otel_pipeline.engine.by_hand import inject as inject
    from otel_pipeline.engine.delivery import current as current
    from otel_pipeline.engine.inference import inference as inference
    from otel_pipeline.engine.model_objects import model as model
    from otel_pipeline.engine.process import process as process
    from otel_pipeline.pipeline import Pipeline as Pipeline
    from otel_pipeline.pipeline import health as health
    from otel_pipeline.pipeline import instrument as instrument
    from otel_pipeline.status import Status as Status
    from otel_pipeline.verdict.report import Health as Health
    from otel_pipeline.verdict.require_fresh import StaleDataError as StaleDataError
    from otel_pipeline.verdict.require_fresh import require_fresh as require_fresh

_HOMES = {
    "ConfigError": "otel_pipeline.config.config",
    "ForeignEnvironmentError": "otel_pipeline.detectors.environments",
    "Health": "otel_pipeline.verdict.report",
    "Pipeline": "otel_pipeline.pipeline",
    "StaleDataError": "otel_pipeline.verdict.require_fresh",
    "Status": "otel_pipeline.status",
    "current": "otel_pipeline.engine.delivery",
    "extract": "otel_pipeline.engine.by_hand",
    "health": "otel_pipeline.pipeline",
    "inference": "otel_pipeline.engine.inference",
    "inject": "otel_pipeline.engine.by_hand",
    "instrument": "otel_pipeline.pipeline",
    "model": "otel_pipeline.engine.model_objects",
    "process": "otel_pipeline.engine.process",
    "require_fresh": "otel_pipeline.verdict.require_fresh",
}

__all__ = [
    "ConfigError",
    "ForeignEnvironmentError",
    "Health",
    "Pipeline",
    "StaleDataError",
    "Status",
    "__version__",
    "current",
    "extract",
    "flow",
    "health",
    "inference",
    "inject",
    "instrument",
    "model",
    "process",
    "require_fresh",
]


def __getattr__(name: str) -> Any:
    if name == "flow":
        return import_module("otel_pipeline.flow")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with not_looked_for():
        value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
