"""What `otel-pipeline demo --faults` shows: a classic dashboard, the five lights, and each fault with its finding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_pipeline.cli.terminal import Cell, Terminal, duration, facts, hang, table, whole_table
from otel_pipeline.demo import lights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_pipeline.demo.findings import Finding, Findings, Harm
    from otel_pipeline.demo.lights import HopLights

_USUAL_P99_S = 0.5
_USUAL_CPU = 0.8
_RESOLUTION_S = 0.5
"""The demo does not look more often than this."""


@dataclass(frozen=True)
class Classic:
    """What a dashboard shows that knows nothing of the data."""

    failed: int
    operations: int
    """Sends, receives and handlings, as the messaging metrics count them."""
    error_logs: int
    process_p99_s: float | None
    """The bound of the bucket that it lies in."""
    cpu_share: float
    """Share of one core, per service."""

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """Yield what is shown, how it is, and the figures."""
        yield (
            "errors",
            _light(good=not self.failed and not self.error_logs),
            f"{self.failed:,} of {self.operations:,} operations failed, {self.error_logs:,} error logs",
        )
        p99 = "no value" if self.process_p99_s is None else f"under {duration(self.process_p99_s)}"
        fast = self.process_p99_s is not None and self.process_p99_s <= _USUAL_P99_S
        yield "process time p99", _light(good=fast), f"{p99} (messaging.process.duration)"
        yield "CPU", _light(good=self.cpu_share < _USUAL_CPU), f"{self.cpu_share:.0%} of a core for each service"


def _light(*, good: bool) -> str:
    return "green" if good else "amber"


@dataclass(frozen=True)
class FaultsResult:
    """All that the screen tells."""

    broker: str
    messages: int
    seconds: float
    findings: Findings
    harms: Sequence[Harm]
    """The harm of each fault, in the order of the findings."""
    whole: Harm
    """The same over all images."""
    classic: Classic
    lights: Sequence[HopLights]
    telemetry: str
    notes: Sequence[str] = field(default=())

    @property
    def passed(self) -> bool:
        """Every fault was found, and none invented."""
        return not self.findings.reasons()


def screen(result: FaultsResult, terminal: Terminal) -> Iterator[str]:
    """Yield the lines at the end."""
    yield ""
    yield from facts(
        [
            ("broker", Cell(result.broker)),
            ("messages", Cell(f"{result.messages:,} sent, {len(result.harms)} faults between the services")),
            ("time", Cell(f"{duration(result.seconds)} in all")),
            ("accuracy", Cell(_accuracy(result.whole))),
        ],
        terminal,
    )
    for note in result.notes:
        yield from hang(note, terminal)
    yield ""
    yield "what a dashboard says that knows nothing of the data"
    lines = [[Cell(""), Cell(""), Cell("")]]
    lines += [
        [Cell(f"  {name}"), Cell(state, lights.STYLES[state]), Cell(text)]
        for name, state, text in result.classic.lines()
    ]
    yield from list(table(lines, terminal))[1:]
    yield ""
    yield from lights.screen(result.lights, terminal)
    yield ""
    yield from _table(result, terminal)
    yield ""
    reasons = result.findings.reasons()
    for reason in reasons:
        yield from hang(reason, terminal, "red", first="failed  ", rest="        ")
    if not reasons:
        yield terminal.paint("every fault was found, and none was invented", "green")
    yield f"telemetry  {result.telemetry}"


def _table(result: FaultsResult, terminal: Terminal) -> Iterator[str]:
    heading = ("fault", "found/injected", "after", "invented", "as", "accuracy", "other harm")
    right = {1, 2, 3}
    rows = [[Cell(word, "dim", right=at in right) for at, word in enumerate(heading)]]
    for finding, harm in zip(result.findings.all, result.harms, strict=True):
        complete = "green" if finding.complete else "red"
        rows.append(
            [
                Cell(finding.fault.title),
                Cell(f"{finding.found:,}/{finding.injected:,}", complete, right=True),
                Cell(_after(finding), right=True),
                Cell(f"{finding.invented:,}", "red" if finding.invented else "", right=True),
                Cell(finding.fault.series.title),
                Cell(_shares(harm, terminal)),
                Cell(harm.words),
            ]
        )
    yield from whole_table(rows, terminal, beside=4)


def _after(finding: Finding) -> str:
    if finding.seconds is None:
        return "never"
    return f"{finding.seconds:.1f} s" if finding.seconds >= _RESOLUTION_S else f"under {_RESOLUTION_S:g} s"


def _shares(harm: Harm, terminal: Terminal) -> str:
    if not harm.judged:
        return "-"
    return f" {terminal.mark('arrow')} ".join(
        f"{right / harm.judged:.1%}" for right in (harm.right_without, harm.right)
    )


def _accuracy(harm: Harm) -> str:
    if not harm.judged:
        return "no image that the model was not trained on was decided"
    return (
        f"{harm.right / harm.judged:.1%} of {harm.judged:,} images that the model was not trained on, "
        f"{harm.right_without / harm.judged:.1%} without the faults"
    )
