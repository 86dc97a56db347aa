"""`otel-pipeline health`: the lights of every instrumented process of this user on this machine."""

from __future__ import annotations

import sys
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.output import as_json, steering
from otel_pipeline.cli.terminal import NARROW, Terminal, add_color_option, detect, duration, fold
from otel_pipeline.config.state_folder import health_folders
from otel_pipeline.plain_text import printable
from otel_pipeline.verdict.report import lines
from otel_pipeline.verdict.state_reader import read, read_all

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from otel_pipeline.verdict.light import State
    from otel_pipeline.verdict.state_reader import Found

GONE_SHOWN_S = 3600.0
"""A process that went without a goodbye is shown for as long beside those that run."""
RED = 1
CANNOT = 2
NOBODY = 3
_STYLES = {"green": "green", "amber": "yellow", "red": "red", "grey": "dim"}
_CLEAR = steering("\x1b[H\x1b[2J")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "health",
        help="is the data healthy: the lights of every process on this machine",
        description="Read what each instrumented process of this user keeps: fresh, in order, keeping pace, contract "
        "kept, environment clean, for each destination and group, and whether what it sends is delivered. Grey is no "
        "evidence. Processes that have ended are counted; --last shows them. "
        f"Exit code {RED} when a light is red, a process does not answer, or one is gone with messages in hand that "
        f"are lost; {CANNOT} when a file cannot be read, {NOBODY} when there is no process.",
    )
    parser.add_argument("services", nargs="*", metavar="SERVICE", help="only these services")
    parser.add_argument(
        "--file", action="append", type=Path, metavar="PATH", help="state files instead of the folder's"
    )
    parser.add_argument(
        "--last",
        action="store_true",
        help="the newest process of each service, also where it has ended within 24 h: for batch jobs and CI",
    )
    parser.add_argument("--json", action="store_true", help="print what the processes keep, as a JSON list")
    parser.add_argument("--watch", action="store_true", help="look again every second, until Ctrl-C")
    add_color_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print once, or again and again; return the exit code."""
    terminal = detect(sys.stdout, no_color=arguments.no_color)
    while True:
        found, left_out = _found(arguments.file, arguments.services)
        ended = 0
        if arguments.last:
            found = _newest(found)
        elif not arguments.file:
            found, ended = _running(found)
        text = _json(found) if arguments.json else "\n".join(_page(found, ended, terminal))
        if arguments.watch and not arguments.json and sys.stdout.isatty():
            text = _CLEAR + text
        print(text, flush=True)
        for path in left_out:
            print(f"otel-pipeline: {path} cannot be read as a state file", file=sys.stderr)
        if not arguments.watch:
            return code(found, left_out)
        time.sleep(1)


def code(found: Sequence[Found], left_out: Sequence[Path] = ()) -> int:
    """Return the exit code: 0 where everything is known and nothing is red."""
    if any(_is_red(each) for each in found):
        return RED
    if left_out:
        return CANNOT
    return 0 if found else NOBODY


def _found(files: Sequence[Path] | None, services: Sequence[str]) -> tuple[list[Found], list[Path]]:
    """Return what processes keep, and which files cannot be read."""
    left_out: list[Path] = []
    if files:
        known = []
        for path in files:
            each = read(path)
            if each is None:
                raise CommandError(f"{path} is no state file", "give files that processes keep, or leave --file out")
            known.append(each)
    else:
        known = [each for folder in health_folders() for each in read_all(folder, left_out.append)]
    asked_for = [each for each in known if not services or each.document["process"]["service"] in services]
    return sorted(asked_for, key=lambda each: not each.alive), left_out


def _running(found: Sequence[Found]) -> tuple[list[Found], int]:
    """Return the processes that run, and those that went without a goodbye lately; and how many others have ended."""
    left = [each for each in found if each.alive or (not each.ended and each.age_s <= GONE_SHOWN_S)]
    return left, len(found) - len(left)


def _newest(found: Sequence[Found]) -> list[Found]:
    """Return the process of each service that said something last."""
    newest: dict[tuple[str, str | None], Found] = {}
    for each in sorted(found, key=lambda each: (each.alive, -each.age_s)):
        process = each.document["process"]
        newest[process["service"], process["environment"]] = each
    return sorted(newest.values(), key=lambda each: not each.alive)


def _is_red(found: Found) -> bool:
    """Tell whether somebody has to look. Of a process that went without a goodbye, nobody knows what it did next."""
    trouble = _trouble(found)
    return trouble.state == "red" if trouble is not None else not found.document["ok"]


class _Trouble(NamedTuple):
    """What is to be said of the process itself."""

    state: State
    words: str


def _trouble(found: Found) -> _Trouble | None:
    """Say what is wrong with the process itself; None when nothing is.

    One that is gone without a goodbye need not have crashed: Kubernetes and process managers stop it by SIGTERM.
    """
    if found.ended:
        return None
    if not found.alive:
        gone = f"gone without a goodbye {duration(found.age_s)} ago"
        at_risk = sum(_at_risk(flow["lights"].get("order")) for flow in found.document["flows"])
        if at_risk:
            lost = f"{at_risk:.0f} messages committed and not begun, or not finished: they are lost"
            return _Trouble("red", f"{gone}; {lost}; this is what it knew")
        return _Trouble("grey", f"{gone}, by a signal or a crash; this is what it knew")
    if found.silent:
        return _Trouble("red", f"the process does not answer: it wrote last {duration(found.age_s)} ago")
    return None


def _at_risk(order: Mapping[str, Any] | None) -> float:
    """Return how many messages were in hand whose offsets were committed."""
    number = order["figures"].get("at_risk") if order else None
    return number if isinstance(number, (int, float)) and 0 < number < inf else 0


def _json(found: Sequence[Found]) -> str:
    return as_json(
        [
            {
                **each.document,
                "alive": each.alive,
                "ended": each.ended,
                "age_s": round(each.age_s, 3),
                "trouble": trouble.words if (trouble := _trouble(each)) is not None else None,
            }
            for each in found
        ]
    )


def _page(found: Sequence[Found], ended: int, terminal: Terminal) -> Iterator[str]:
    if not found:
        yield "no process keeps its health here"
        if ended:
            yield f"  {ended:,} ended within 24 h: otel-pipeline health --last"
        else:
            yield f"  start one with otel_pipeline.instrument(); looked in {' and '.join(map(str, health_folders()))}"
        return

    def paint(text: str, state: str) -> str:
        return terminal.paint(text, _STYLES.get(state, ""))

    def folded(text: str, before: int) -> Iterator[str]:
        return fold(text, None if terminal.width is None else max(terminal.width - before, NARROW))

    for at, each in enumerate(found):
        if at:
            yield ""
        head, *rest = lines(_printable(each.document), paint, folded)
        yield head
        trouble = _trouble(each)
        if trouble is not None:
            before = len(trouble.state) + 4
            first, *more = folded(trouble.words, before)
            yield f"  {paint(trouble.state, trouble.state)}  {first}"
            yield from (" " * before + line for line in more)
        elif each.ended:
            yield f"  ended {duration(each.age_s)} ago; this is its last verdict"
        yield from rest
    if ended:
        yield ""
        yield f"{ended:,} ended within 24 h: otel-pipeline health --last"


def _printable(value: Any) -> Any:
    """Spell out control characters in names: these come from clients, and must not steer the terminal."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): _printable(each) for name, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list) else value
