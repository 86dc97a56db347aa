"""The text of the state file: written when something has changed, and of that only what has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otel_pipeline.verdict.report import flow_to_dict

if TYPE_CHECKING:
    from otel_pipeline.verdict.report import Health
    from otel_pipeline.verdict.verdict import FlowHealth

UNCHANGED_FOR_S = 3.0
"""Without a change it is written once in so many seconds: a reader takes a process that is silent for 5 s for stuck."""


class Document:
    """Makes the texts of one process's state file. Used by one thread."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str | None, str, str | None], tuple[FlowHealth, str]] = {}
        self._written: tuple[FlowHealth, ...] = ()
        self._written_at = 0.0

    def is_due(self, health: Health) -> bool:
        """Tell whether it has to be written."""
        age_s = health.written_at - self._written_at
        if not 0 <= age_s < UNCHANGED_FOR_S or len(health.flows) != len(self._written):
            return True
        return any(now is not before for now, before in zip(health.flows, self._written, strict=True))

    def text(self, health: Health) -> str:
        """Return the text, and take it for written."""
        self._written, self._written_at = health.flows, health.written_at
        flows = {(flow.cluster, flow.destination, flow.group): self._text_of(flow) for flow in health.flows}
        self._flows = flows
        head = _dumped(health.head())
        return f'{head[:-1]},"flows":[{",".join(text for _, text in flows.values())}]}}'

    def _text_of(self, flow: FlowHealth) -> tuple[FlowHealth, str]:
        known = self._flows.get((flow.cluster, flow.destination, flow.group))
        return known if known is not None and known[0] is flow else (flow, _dumped(flow_to_dict(flow)))


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
