"""Null rate and range of fields that were asked for by name. Off unless asked for: ranges are values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.paths import ANY_KEY, ITEM, ContractError, step_key, steps
from otel_pipeline.contracts.values import MAX_ITEMS, fields_of, reduced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_FIELDS = 32


@dataclass(slots=True)
class FieldHealth:
    """What was seen of one field, in the messages that were looked at."""

    values: int = 0
    nulls: int = 0
    minimum: float | None = None
    maximum: float | None = None

    @property
    def null_rate(self) -> float | None:
        """Share of nulls among the objects that have the field; None before the first."""
        return self.nulls / self.values if self.values else None


class FieldsHealth:
    """Looks at the named fields of values.

    Args:
        paths: at most 32, written as in a contract.

    Raises:
        ContractError: there are more, or one is not a path.
    """

    __slots__ = ("_steps", "by_path")

    def __init__(self, paths: Iterable[str]) -> None:
        self.by_path = {path: FieldHealth() for path in sorted(paths)}
        if len(self.by_path) > MAX_FIELDS:
            raise ContractError(f"{len(self.by_path)} fields are asked for; at most {MAX_FIELDS} are looked at")
        self._steps = [(steps(path), health) for path, health in self.by_path.items()]

    def figures(self) -> dict[str, float]:
        """Return what is known of each field, as `path null_rate`, `path minimum`, `path maximum`."""
        names = ("null_rate", "minimum", "maximum")
        found = {(path, name): getattr(health, name) for path, health in self.by_path.items() for name in names}
        return {f"{path} {name}": value for (path, name), value in found.items() if value is not None}

    def look(self, value: Any) -> None:
        """Take in a value. May raise what the methods of the value's own classes raise."""
        for walked, health in self._steps:
            for found in _values_at(value, walked):
                health.values += 1
                if found is None:
                    health.nulls += 1
                elif isinstance(found, (int, float)) and not isinstance(found, bool):
                    # Not a number compares as false with all, and so changes nothing.
                    if health.minimum is None or found < health.minimum:
                        health.minimum = None if found != found else float(found)  # noqa: PLR0124
                    if health.maximum is None or found > health.maximum:
                        health.maximum = None if found != found else float(found)  # noqa: PLR0124


def _values_at(value: Any, walked: list[str]) -> Iterator[Any]:
    if not walked:
        yield value
        return
    step, rest = walked[0], walked[1:]
    name, parts = reduced(value)
    if step == ITEM:
        if name == "array":
            for item in parts[:MAX_ITEMS]:
                yield from _values_at(item, rest)
    elif name == "object":
        if step == ANY_KEY:
            for _, item in fields_of(parts):
                yield from _values_at(item, rest)
        elif (key := step_key(step)) in parts:
            yield from _values_at(parts[key], rest)
