"""The word for the state that a consumer is in, as its light for keeping pace says it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.verdict.light import Light

PACE = "pace"
"""The name of that light."""
Status = Literal["ok", "behind", "stuck", "not asking", "not served", "paused", "unknown"]
STATUSES: tuple[Status, ...] = get_args(Status)
_STATUS: Mapping[str, Status] = MappingProxyType(
    {
        "left the group": "not asking",
        "not polling": "not asking",
        "does not ask": "not asking",
        "going round": "stuck",
        "stuck in the handler": "stuck",
        "stuck in the process": "stuck",
        "held back": "behind",
        "behind in the process": "behind",
        "busy": "behind",
        "falling behind": "behind",
        "catching up": "behind",
        "no answer": "not served",
        "not served": "not served",
        "paused": "paused",
        "caught up": "ok",
        "idle": "ok",
    }
)


def status(light: Light) -> Status:
    """Return the one of seven words for what a light says."""
    return "unknown" if light.state == "grey" else _STATUS.get(light.row, "unknown")
