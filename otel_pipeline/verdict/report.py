"""What `health()` returns: the lights of a process, for a person, a program and the state file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from math import ceil
from typing import TYPE_CHECKING, Any

from otel_pipeline.verdict.consumer_status import PACE, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from otel_pipeline.verdict.light import Light
    from otel_pipeline.verdict.verdict import FlowHealth

SCHEMA = 2
_SENTENCES = len(f"    {'':<18} {'':<5}  ")
"""Columns before a light's reason."""


@dataclass(frozen=True, slots=True)
class Process:
    """The process that reports."""

    pid: int
    started_at: float
    """s since the epoch."""
    service: str
    instance: str
    environment: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """The health of the data that flows through this process. Print it."""

    process: Process
    written_at: float
    """s since the epoch."""
    interval_s: float
    flows: tuple[FlowHealth, ...] = ()
    producers: tuple[FlowHealth, ...] = ()
    """What is sent, by destination: whether it is delivered."""
    clock_bound_s: float | None = None
    """How far this machine's clock may be off from the Collector's; None when it is not known."""
    reason: str = ""
    """Why there is nothing to say."""
    ended_at: float | None = None
    """When the process ended, s since the epoch; None while it runs."""

    @property
    def ok(self) -> bool:
        """Whether no light is red."""
        return all(each.state != "red" for each in (*self.flows, *self.producers))

    def to_dict(self) -> dict[str, Any]:
        """Return the document that the state file holds (docs/health.md)."""
        return {
            **self.head(),
            "flows": [flow_to_dict(flow) for flow in self.flows],
            "producers": [producer_to_dict(sent) for sent in self.producers],
        }

    def head(self) -> dict[str, Any]:
        """Return the document without its flows and producers, which stand last."""
        process = self.process
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "written_at": _timestamp(self.written_at),
            "ended_at": None if self.ended_at is None else _timestamp(self.ended_at),
            "interval_s": self.interval_s,
            "process": {
                "pid": process.pid,
                "started_at": _timestamp(process.started_at),
                "service": process.service,
                "instance": process.instance,
                "environment": process.environment,
            },
            "clock_bound_s": self.clock_bound_s,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        return "\n".join(lines(self.to_dict()))

    __repr__ = __str__


def flow_to_dict(flow: FlowHealth) -> dict[str, Any]:
    """Return one flow, as the document has it."""
    return {
        "cluster": flow.cluster,
        "destination": flow.destination,
        "group": flow.group,
        "state": flow.state,
        "lights": {name: _light(name, light) for name, light in flow.lights.items()},
    }


def producer_to_dict(sent: FlowHealth) -> dict[str, Any]:
    """Return what is sent to one destination, as the document has it."""
    written = flow_to_dict(sent)
    del written["group"]
    return written


def lines(
    document: Mapping[str, Any],
    paint: Callable[[str, str], str] = lambda text, _state: text,
    fold: Callable[[str, int], Iterable[str]] = lambda text, _columns: (text,),
) -> Iterator[str]:
    """Write one process for people, from what `to_dict` gives.

    Args:
        document: of the process.
        paint: called as `paint(text, state)`, adds colour to the words.
        fold: called as `fold(text, columns)`, breaks a sentence that begins after so many columns into lines.
    """
    from otel_pipeline.verdict.lights import TITLES  # With all that judges: only where somebody reads it.

    process = document["process"]
    yield (
        f"{process['service']} in {process['environment'] or 'no environment'} (pid {process['pid']})"
        f"{_clock(document.get('clock_bound_s'))}"
    )
    if document["reason"]:
        yield f"  {document['reason']}"
    elif not document["flows"] and not document["producers"]:
        yield "  no messages yet"
    # Reading is the longer story, and most often what is asked for: it stands first.
    for flow in (*document["flows"], *document["producers"]):
        group = f" -> {flow['group']}" if flow.get("group") else "" if "group" in flow else ", sent"
        cluster = f"   cluster {flow['cluster']}" if flow["cluster"] else ""
        yield f"  {flow['destination']}{group}  {paint(flow['state'], flow['state'])}{cluster}"
        for name, light in flow["lights"].items():
            state = light["state"]
            head = f"    {TITLES.get(name, name):<18} {paint(f'{state:<5}', state)}  "
            for line in fold(light["why"], _SENTENCES):
                yield head + line
                head = " " * _SENTENCES
            if state != "green" and light["look"]:
                yield from (" " * _SENTENCES + line for line in fold(f"look: {light['look']}", _SENTENCES))


def _clock(bound_s: float | None) -> str:
    """Write how far the clock can be off, rounded up: it is a bound."""
    if bound_s is None:
        return ""
    text = f"{ceil(bound_s * 1000)} ms" if bound_s <= 1 else f"{ceil(bound_s * 10) / 10:.1f} s"
    return f", clock within {text} of the Collector's"


def _light(name: str, light: Light) -> dict[str, Any]:
    found = {
        "state": light.state,
        "why": light.why,
        "look": light.look,
        "since": _timestamp(light.since_s),
        "judged": light.judged,
        "seen": light.seen,
        "window_s": light.window_s,
        "figures": dict(light.figures),
    }
    return {**found, "status": status(light)} if name == PACE else found


def _timestamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
