"""The five lights of the demo's hops, from the files in which its services keep their health."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otel_pipeline.cli.terminal import Cell, Terminal, duration, facts, fits, hang, table, wrap
from otel_pipeline.verdict.lights import TITLES_OF_FLOWS as TITLES
from otel_pipeline.verdict.state_reader import read_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STYLES = {"green": "green", "amber": "yellow", "red": "red", "grey": "dim"}
_READERS = ("features", "scorer")
_SENDERS = {"features": "ingest", "scorer": "features"}
_EVALUATIONS = 3
"""Evaluations after the last message. A light leaves or enters grey at the second one; one may be under way."""
_PATIENCE_SECONDS = 6.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class HopLights:
    """What a consumer says of the messages that it reads."""

    sender: str
    receiver: str
    states: Mapping[str, str]
    """States by light, in the order of `TITLES`; empty where the service said nothing."""
    whys: Mapping[str, str] = field(default_factory=dict)
    """What the lights that are not green say, and what to look at."""
    fresh: str = ""
    """What the light says of its objective."""
    messages: int = 0
    age_p99_s: float | None = None
    lag: int | None = None
    missing: int | None = None
    checked: int | None = None
    """Values compared with the contract."""

    @property
    def green(self) -> bool:
        """Whether all five lights are green."""
        return len(self.states) == len(TITLES) and set(self.states.values()) == {"green"}


def hops(documents: Mapping[str, Mapping[str, Any]]) -> list[HopLights]:
    """Return one hop for each consumer, from what the services keep, by service."""
    found = []
    for receiver in _READERS:
        flows = documents.get(receiver, {}).get("flows", ())
        read = next((flow for flow in flows if flow["group"]), None)
        found.append(_hop(receiver, read["lights"] if read else {}))
    return found


def _hop(receiver: str, lights: Mapping[str, Any]) -> HopLights:
    def figure(light: str, name: str) -> float | None:
        value = lights.get(light, {}).get("figures", {}).get(name)
        return value if isinstance(value, (int, float)) else None

    def count(light: str, name: str) -> int | None:
        value = figure(light, name)
        return None if value is None else int(value)

    whys = {
        name: light["why"] + (f"; look: {light['look']}" if light["look"] else "")
        for name, light in lights.items()
        if light["state"] != "green"
    }
    return HopLights(
        sender=_SENDERS[receiver],
        receiver=receiver,
        states={name: light["state"] for name, light in lights.items()},
        whys=whys,
        fresh=lights["fresh"]["why"] if lights and figure("fresh", "met") is not None else "",
        messages=int(lights["order"]["seen"]) if lights else 0,
        age_p99_s=figure("fresh", "p99_s"),
        lag=count("pace", "lag"),
        missing=count("order", "missing"),
        checked=count("contract", "checked"),
    )


def documents(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read what the services keep now, by service."""
    return {found.document["process"]["service"]: found.document for found in read_all(folder)}


def settled(folder: Path, messages: int) -> list[HopLights]:
    """Return the lights once all messages were judged: at once when all are green, else after some evaluations."""
    began = time.monotonic()
    evaluations: dict[str, set[str]] = {}
    while True:
        now = documents(folder)
        for service, document in now.items():
            evaluations.setdefault(service, set()).add(document["written_at"])
        lights = hops(now)
        # The first that is found may be from before the last message.
        enough = all(len(evaluations.get(service, ())) > _EVALUATIONS for service in _READERS)
        whole = all(hop.green and hop.messages >= messages for hop in lights)
        if enough or whole or time.monotonic() - began > _PATIENCE_SECONDS:
            return lights
        time.sleep(_POLL_SECONDS)


def screen(found: Sequence[HopLights], terminal: Terminal) -> Iterator[str]:
    """Yield a line for each hop, what is not green with its reason, and how fresh the decisions were.

    Where the terminal is too narrow for the table, there is a line for each light: none is cut.
    """
    arrow = f" {terminal.mark('arrow')} "
    rows = [
        [
            Cell(word, "dim", right=at > len(TITLES))
            for at, word in enumerate(
                ("healthy?", *TITLES.values(), "data age p99", "lag", "missing", "values checked")
            )
        ]
    ]
    for hop in found:
        figures = [
            "-" if hop.age_p99_s is None else duration(hop.age_p99_s),
            *("-" if count is None else f"{count:,}" for count in (hop.lag, hop.missing, hop.checked)),
        ]
        states = [hop.states.get(name, "grey") for name in TITLES]
        rows.append(
            [
                Cell(arrow.join((hop.sender, hop.receiver))),
                *(Cell(state, STYLES.get(state, "")) for state in states),
                *(Cell(text, right=True) for text in figures),
            ]
        )
    yield from table(rows, terminal) if fits(rows, terminal) else _narrow(rows, terminal)
    for hop in found:
        if not hop.states:
            yield from hang(f"{hop.receiver}: kept no health", terminal)
        for name, why in hop.whys.items():
            state = hop.states[name]
            said = f"{hop.receiver}: {TITLES.get(name, name)} is {state}: {why}"
            yield from hang(said, terminal, STYLES.get(state, ""))
    for hop in found:
        if "decisions" in hop.fresh:
            yield from hang(hop.fresh, terminal, first="", rest="  ")


def _narrow(rows: Sequence[Sequence[Cell]], terminal: Terminal) -> Iterator[str]:
    """Write each row of the table on lines of its own."""
    heading, *hops = rows
    yield heading[0].text
    for hop in hops:
        yield hop[0].text
        named = [(f"  {name.text}", cell) for name, cell in zip(heading[1:], hop[1:], strict=True)]
        yield from facts(named[: len(TITLES)], terminal)
        yield from wrap([f"{name.strip()} {cell.text}" for name, cell in named[len(TITLES) :]], terminal, indent="  ")
