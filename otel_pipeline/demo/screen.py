"""What the demo shows: progress while it runs, and the screen at the end."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from otel_pipeline.cli.output import steering
from otel_pipeline.cli.terminal import Cell, Terminal, duration, facts, hang, whole_table, wrap
from otel_pipeline.cli.tree import draw
from otel_pipeline.demo import lights
from otel_pipeline.demo.check import SERVICES, Hop, Verdict
from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_pipeline.cli.traces import Trace
    from otel_pipeline.demo.lights import HopLights
    from otel_pipeline.export.otlp_reader import LogRecord, SpanRecord

_SHOWN_REASONS = 5
_SHORT_ID_LETTERS = 12


class Progress:
    """Says on stderr what is being done and how far it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tty = stream.isatty()
        self._open = False
        self._said = 0

    def say(self, text: str) -> None:
        """Write the text on a line of its own."""
        print(("\n" if self._open else "") + text, file=self._stream, flush=True)
        self._open = False
        self._said = 0

    def count(self, done: int, whole: int, text: str) -> None:
        """Say how far it is: in place on a terminal, otherwise one line per quarter."""
        if self._tty:
            print(f"{steering(chr(13))}{text} {done:,}/{whole:,}", end="", file=self._stream, flush=True)
            self._open = True
        elif done * 4 // whole > self._said:
            self._said = done * 4 // whole
            print(f"{text} {done:,}/{whole:,}", file=self._stream, flush=True)

    def close(self) -> None:
        """End the line that is counted on."""
        if self._open:
            print(file=self._stream, flush=True)
            self._open = False


@dataclass(frozen=True)
class Result:
    """All that the screen tells."""

    broker: str
    messages: int
    missing: Mapping[str, int]
    seconds: float
    streaming_seconds: float
    right: int
    judged: int
    """Images that the model was not trained on, and how many of them it got right."""
    mixed: Sequence[int]
    """Images whose messages carried no trace id, or more than one."""
    wrapper: bool
    verdict: Verdict | None
    """The verdict of the check; None when the telemetry went elsewhere."""
    spans: Sequence[SpanRecord] = ()
    log: LogRecord | None = None
    telemetry: str = ""
    trace_id: str = ""
    """The trace id of one message, for looking it up elsewhere."""
    notes: Sequence[str] = field(default=())
    lights: Sequence[HopLights] = ()

    @property
    def broken_traces(self) -> int:
        """By the telemetry where it can be read, else by what the messages carried."""
        return max(self.verdict.broken_traces if self.verdict else 0, len(self.mixed))

    @property
    def passed(self) -> bool:
        """Whether every message arrived and every trace is whole."""
        return not self.missing and not self.broken_traces


def screen(result: Result, terminal: Terminal) -> Iterator[str]:
    """Yield the lines at the end."""
    yield ""
    yield from _facts(result, terminal)
    trace = result.verdict.typical if result.verdict else None
    if result.verdict and trace:
        linked = [
            span
            for span in result.spans
            if span.trace_id != trace.trace_id and any(link.trace_id == trace.trace_id for link in span.links)
        ]
        yield ""
        yield from draw(trace, linked, terminal)
    if result.verdict:
        yield ""
        yield from _hops(result.verdict.hops, terminal)
    if result.lights:
        yield ""
        yield from lights.screen(result.lights, terminal)
    if result.log:
        yield ""
        yield "a log line, with the trace it belongs to"
        yield from wrap(_log(result.log), terminal, indent="  ")
    yield ""
    yield from _where(result, trace)


def _facts(result: Result, terminal: Terminal) -> Iterator[str]:
    sent = f"{result.messages:,} through {len(SERVICES)} services"
    missing = ", ".join(f"{count:,} missing in {topic}" for topic, count in result.missing.items())
    accuracy = (
        f"{result.right / result.judged:.1%} of {result.judged:,} images that the model was not trained on"
        if result.judged
        else "no image that the model was not trained on"
    )
    by = "" if result.verdict else ", by the trace ids in the messages' headers"
    said = [
        ("broker", result.broker, ""),
        ("messages", f"{sent}, {missing or 'none missing'}", "red" if missing else ""),
        ("time", f"{duration(result.streaming_seconds)} of streaming, {duration(result.seconds)} in all", ""),
        ("accuracy", accuracy, ""),
        ("broken traces", f"{result.broken_traces:,}{by}", "red" if result.broken_traces else "green"),
    ]
    yield from facts([(name, Cell(text, style)) for name, text, style in said], terminal)
    for reason in _reasons(result):
        yield from hang(reason, terminal, "red")
    for note in result.notes:
        yield from hang(note, terminal)


def _reasons(result: Result) -> Iterator[str]:
    if result.verdict:
        if result.verdict.untraced:
            yield f"{result.verdict.untraced:,} messages without any trace"
        for trace_id, reason in list(result.verdict.broken.items())[:_SHOWN_REASONS]:
            yield f"{trace_id}: {reason}"
        if len(result.verdict.broken) > _SHOWN_REASONS:
            yield f"and {len(result.verdict.broken) - _SHOWN_REASONS:,} more"
    if result.mixed:
        yield f"{len(result.mixed):,} images without one trace id in all topics, image {result.mixed[0]} for example"


def _hops(hops: Iterable[Hop], terminal: Terminal) -> Iterator[str]:
    heading = ("hop", "environments", "messages", "delivery age p50", "p99", "process time p99")
    rows = [[Cell(word, "dim", right=at > 1) for at, word in enumerate(heading)]]
    arrow = f" {terminal.mark('arrow')} "
    for hop in hops:
        texts = (
            arrow.join((hop.sender, hop.receiver)),
            arrow.join((SERVICES[hop.sender], SERVICES[hop.receiver])),
            f"{hop.messages:,}",
            *("-" if seconds is None else duration(seconds) for seconds in (hop.age_p50, hop.age_p99, hop.process_p99)),
        )
        rows.append([Cell(text, right=at > 1) for at, text in enumerate(texts)])
    yield from whole_table(rows, terminal, beside=3)


def _log(log: LogRecord) -> list[str]:
    seconds, rest = divmod(log.time_ns, 1_000_000_000)
    moment = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest // 1_000_000:03d}"
    return [f"{moment} {log.severity} {printable(str(log.body))}", f"trace_id={log.trace_id}", f"span_id={log.span_id}"]


def command() -> str:
    """Return how this very installation is called from the shell that is open: its script need not be on the path."""
    script = Path(sys.executable).with_name("otel-pipeline.exe" if os.name == "nt" else "otel-pipeline")
    found = shutil.which("otel-pipeline")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m otel_pipeline"
    if found is not None and script.samefile(found):
        return "otel-pipeline"
    with suppress(ValueError, OSError):  # Elsewhere, or the working folder was deleted.
        return shlex.quote(str(script.relative_to(Path.cwd())))
    return shlex.quote(str(script))


def _where(result: Result, trace: Trace | None) -> Iterator[str]:
    said = [("telemetry", result.telemetry)]
    if result.verdict is None:
        said.append(("", "it was not read back: the tree, the ages and the log lines are there, not here"))
        said.append(("look up", f"trace {result.trace_id}"))
    elif trace:
        show, path = f"{command()} show", shlex.quote(result.telemetry)
        said.append(("open it", f"{show} {trace.trace_id[:_SHORT_ID_LETTERS]} --file {path}"))
        said.append(("all traces", f"{show} --list --file {path}"))
    if result.wrapper:
        said.append(("your service", "opentelemetry-instrument python your_service.py   (no line of code)"))
    else:
        said.append(("your service", "import otel_pipeline; otel_pipeline.instrument()"))
    # Paths and commands are to be copied: never cut.
    yield from facts([(name, Cell(text)) for name, text in said], Terminal())
