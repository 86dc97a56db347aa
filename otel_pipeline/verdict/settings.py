"""What can be said of the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a field's type
from typing import Literal

from otel_pipeline.settings import option


@dataclass(frozen=True)
class VerdictSettings:
    """When the lights are judged, and where they are written."""

    state_file: Literal["auto", "off"] | Path = option(
        "health.state_file",
        "state file",
        "auto",
        "Where the lights are written for `otel-pipeline health`; a path begins at the configuration file's folder.",
    )
    interval_s: float = option("health.interval", "duration", 1.0, "How often the lights are judged.")
