"""`otel-pipeline show`: a trace as a tree, or the newest traces, from telemetry lines on this machine."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.output import as_json
from otel_pipeline.cli.telemetry_files import TelemetryFiles, given, recorded
from otel_pipeline.cli.terminal import Cell, Terminal, add_color_option, detect, duration, table
from otel_pipeline.cli.traces import Trace, group
from otel_pipeline.cli.tree import SPANS, chain, count, draw, local_time
from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from otel_pipeline.export.otlp_reader import SpanRecord

_ID_LETTERS = 32
_SHORT_ID_LETTERS = 8
_TRACES = 20
_HEADER = (
    ("time", False),
    ("trace", False),
    ("spans", True),
    ("duration", True),
    ("errors", True),
    ("root", False),
    ("services", False),
)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "show",
        help="draw a trace that was recorded on this machine, or in files",
        description="Draw a trace as a tree: service, environment, operation, partition@offset, hops, duration, ages, "
        "errors and links. Links of a span to its own parent are not drawn; --json has them.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("trace_id", nargs="?", metavar="TRACE_ID", help="a trace id, or the beginning of one")
    which.add_argument("--last", action="store_true", help="the newest trace (the default)")
    which.add_argument("--list", action="store_true", help="the newest traces, one line each")
    parser.add_argument(
        "--file",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="files or folders of OTLP JSON lines, also of a Collector's file exporter, instead of this machine's",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"how many traces --list shows (default {_TRACES}), how many spans of a trace are drawn (default {SPANS})",
    )
    parser.add_argument("--all", action="store_true", help="--list also the traces that are only a receive span")
    parser.add_argument("--json", action="store_true", help="print JSON instead of drawing")
    add_color_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show what was asked for."""
    files = given(arguments.file) if arguments.file else recorded()
    terminal = detect(sys.stdout, no_color=arguments.no_color)
    if arguments.list:
        lines = _list(files, arguments, terminal)
    else:
        trace_id = _find(files, arguments.trace_id) if arguments.trace_id else _newest(files, arguments)[0].trace_id
        spans = files.spans(containing=trace_id)
        if trace_id not in group(spans):
            spans = files.spans()  # Its digits are written as escapes.
        trace = group(spans)[trace_id]
        linked = [
            span
            for span in spans
            if span.trace_id != trace_id and any(link.trace_id == trace_id for link in span.links)
        ]
        lines = (
            iter([_as_json(trace, linked)])
            if arguments.json
            else draw(trace, linked, terminal, max(arguments.limit or SPANS, 1))
        )
    for line in lines:
        print(line)
    if files.skipped_lines:
        print(f"otel-pipeline: {count(files.skipped_lines, 'line')} could not be read as OTLP JSON", file=sys.stderr)
    return 0


def _find(files: TelemetryFiles, wanted: str) -> str:
    """Find the one trace id that begins like that."""
    prefix = wanted.strip().lower()
    if not prefix or len(prefix) > _ID_LETTERS or prefix.strip("0123456789abcdef"):
        raise CommandError(
            f"{wanted!r} is no trace id", "a trace id is 32 hexadecimal digits, or the first few of them"
        )
    found = list(group(span for span in files.spans(containing=prefix) if span.trace_id.startswith(prefix)).values())
    if not found:
        raise CommandError(
            f"no trace that begins with {prefix} in {count(len(files.paths), 'file')}",
            "`otel-pipeline show --list` lists the newest; telemetry from elsewhere: --file PATH",
        )
    if len(found) > 1:
        examples = "\n  ".join(f"{trace.trace_id}  {printable(trace.root.name)}" for trace in found[:5])
        raise CommandError(f"{len(found)} traces begin with {prefix}, give more digits", examples)
    return found[0].trace_id


def _newest(files: TelemetryFiles, arguments: argparse.Namespace) -> list[Trace]:
    """Return the newest traces. Those of a receive span only come when nothing else is there, or when asked for."""
    paths = files.paths if arguments.file else files.newest()
    traces = list(group(files.spans(paths)).values())
    if not traces:
        unread = f", {count(files.skipped_lines, 'line')} could not be read" if files.skipped_lines else ""
        raise CommandError(
            f"no trace in {count(len(paths), 'file')}{unread}",
            "files are read as OTLP JSON, one export request per line" if arguments.file else "",
        )
    if len(paths) < len(files.paths):
        print(f"only the {len(paths)} newest of {count(len(files.paths), 'file')} were looked at", file=sys.stderr)
    return traces if arguments.all else [trace for trace in traces if not trace.only_receives] or traces


def _list(files: TelemetryFiles, arguments: argparse.Namespace, terminal: Terminal) -> Iterator[str]:
    traces = _newest(files, arguments)
    newest = traces[: max(arguments.limit or _TRACES, 1)]
    if arguments.json:
        yield as_json([_summary(trace) for trace in newest])
        return
    letters = _short(traces)
    heading = [Cell(word, "dim", right) for word, right in _HEADER]
    yield from table([heading, *(_line(trace, letters, terminal) for trace in newest)], terminal)
    if len(traces) > len(newest):
        yield terminal.paint(f"and {count(len(traces) - len(newest), 'older trace')}: --limit {len(traces)}", "dim")


def _line(trace: Trace, letters: int, terminal: Terminal) -> list[Cell]:
    return [
        Cell(local_time(trace.start_ns), "dim"),
        Cell(trace.trace_id[:letters], "bold"),
        Cell(f"{len(trace.spans)}", right=True),
        Cell(duration(trace.seconds), right=True),
        Cell(f"{trace.errors}", "red" if trace.errors else "", right=True),
        Cell(printable(trace.root.name) if not trace.root.parent_span_id else "(not recorded)"),
        Cell(chain(trace.services, terminal)),
    ]


def _short(traces: list[Trace]) -> int:
    """Return how many letters tell these traces apart."""
    ids = [trace.trace_id for trace in traces]
    return next(
        letters
        for letters in range(_SHORT_ID_LETTERS, _ID_LETTERS + 1)
        if len({trace_id[:letters] for trace_id in ids}) == len(ids)
    )


def _summary(trace: Trace) -> dict[str, object]:
    return {
        "trace_id": trace.trace_id,
        "start_ns": trace.start_ns,
        "root": trace.root.name,
        "services": trace.services,
        "environments": trace.environments,
        "spans": len(trace.spans),
        "duration_s": trace.seconds,
        "errors": trace.errors,
    }


def _as_json(trace: Trace, linked: list[SpanRecord]) -> str:
    content = {
        **_summary(trace),
        "spans": [dataclasses.asdict(span) for span in trace.spans],
        "linked": [dataclasses.asdict(span) for span in linked],
    }
    return as_json(content, default=bytes.hex)
