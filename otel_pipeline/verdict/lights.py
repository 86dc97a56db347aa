"""The lights of flows and of producers, in the order that people read them (docs/health.md, docs/design/lights.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.verdict.contract import CONTRACT
from otel_pipeline.verdict.delivered import DELIVERED
from otel_pipeline.verdict.environment import ENVIRONMENT
from otel_pipeline.verdict.fresh import FRESH
from otel_pipeline.verdict.order import ORDER
from otel_pipeline.verdict.pace import PACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.verdict.case import Case
    from otel_pipeline.verdict.light import Table

OF_FLOWS: tuple[Table[Case], ...] = (FRESH, ORDER, PACE, CONTRACT, ENVIRONMENT)
OF_PRODUCERS: tuple[Table[Case], ...] = (DELIVERED, CONTRACT)
LIGHTS: tuple[Table[Case], ...] = (*OF_FLOWS, DELIVERED)
TITLES: Mapping[str, str] = {table.name: table.title for table in LIGHTS}
"""For people, by name."""
TITLES_OF_FLOWS: Mapping[str, str] = {table.name: table.title for table in OF_FLOWS}
NAMES = tuple(TITLES)
