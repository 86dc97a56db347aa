"""The text of the state file: written when something has changed, and of that only what has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otel_pipeline.verdict.report import flow_to_dict, producer_to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.verdict.report import Health
    from otel_pipeline.verdict.verdict import FlowHealth

UNCHANGED_FOR_S = 3.0
"""Without a change it is written once in so many seconds: a reader takes a process that is silent for 5 s for stuck."""


class Document:
    """Makes the texts of one process's state file. Used by one thread."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str | None, ...], tuple[FlowHealth, str]] = {}
        self._written: tuple[FlowHealth, ...] = ()
        self._written_at = 0.0

    def is_due(self, health: Health) -> bool:
        """Tell whether it has to be written."""
        age_s, every = health.written_at - self._written_at, (*health.flows, *health.producers)
        if not 0 <= age_s < UNCHANGED_FOR_S or len(every) != len(self._written):
            return True
        return any(now is not before for now, before in zip(every, self._written, strict=True))

    def text(self, health: Health) -> str:
        """Return the text, and take it for written."""
        self._written, self._written_at = (*health.flows, *health.producers), health.written_at
        known, self._texts = self._texts, {}
        flows = [self._text_of(known, ("flow", *_key(flow)), flow, flow_to_dict) for flow in health.flows]
        sent = [self._text_of(known, ("sent", *_key(each)), each, producer_to_dict) for each in health.producers]
        head = _dumped(health.head())
        return f'{head[:-1]},"flows":[{",".join(flows)}],"producers":[{",".join(sent)}]}}'

    def _text_of(
        self,
        known: Mapping[tuple[str | None, ...], tuple[FlowHealth, str]],
        key: tuple[str | None, ...],
        now: FlowHealth,
        to_dict: Callable[[FlowHealth], dict[str, Any]],
    ) -> str:
        before = known.get(key)
        text = before[1] if before is not None and before[0] is now else _dumped(to_dict(now))
        self._texts[key] = now, text
        return text


def _key(flow: FlowHealth) -> tuple[str | None, ...]:
    return flow.cluster, flow.destination, flow.group


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
