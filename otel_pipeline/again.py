"""What a second `instrument()` asks for, beside what the first one has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.config.general import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_pipeline.config.config import Config
    from otel_pipeline.settings import Option

APPLIED = frozenset(("libraries", "disable", "hooks", "event_time", "strict"))
"""Arguments that can be changed while it runs; `strict` says how this very call is read."""
_SHOWN = frozenset(("service_name", "service_version", ENVIRONMENT, "sample_rate"))


def differing(before: Config, after: Config, given: Mapping[str, Any], service_name: str) -> list[str]:
    """Return the arguments that say something else than what holds.

    Args:
        before: what holds.
        after: what would hold with these arguments.
        given: the arguments of the second call.
        service_name: the name in force, which need not have been given.
    """
    found = []
    for path, option in _options(before):
        if option.argument in given and after.values.get(path) != before.values.get(path):
            if option.argument == "service_name" and after.values[path] == service_name:
                continue
            found.append(str(option.argument))
    if "config_file" in given and after.file != before.file:
        found.append("config_file")
    return found


def fixed(before: Config, after: Config, changed: list[str]) -> Iterator[str]:
    """Say of each that cannot be changed any more what holds, and what to do."""
    options = {option.argument: (path, option) for path, option in _options(before)}
    for argument in changed:
        if argument in APPLIED:
            continue
        asked, remedy = "", "give it to the first call"
        if argument in options:
            path, option = options[argument]
            if argument in _SHOWN:
                asked = f" {after.values[path]!r}"
                holds = before.values[path]
                asked += f", {holds!r} holds" if holds is not None else ""
            if option.variable is not None:
                remedy += f", or set {option.variable.name}"
        yield f"a second instrument() asks for {argument}{asked}: that is fixed since the first; {remedy}"


def _options(config: Config) -> Iterator[tuple[str, Option]]:
    for path, row in config.table.rows.items():
        if row.option.argument is not None:
            yield path, row.option
