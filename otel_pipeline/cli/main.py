"""The command `otel-pipeline`: finds the subcommand, imports only that one, turns its errors into sentences."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.output import harmless_output
from otel_pipeline.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

# Name, module and one line. Each module has `add_parser(subparsers)`, which sets the default `run(arguments) -> int`.
COMMANDS = (
    ("demo", "otel_pipeline.demo.command", "three services, one broker, one trace: see it work on this machine"),
    ("show", "otel_pipeline.cli.show", "draw a trace that was recorded on this machine, or in files"),
    ("health", "otel_pipeline.cli.health", "is the data healthy: the lights of every process on this machine"),
    ("broker", "otel_pipeline.cli.broker", "a Kafka broker on this machine, for trying things out, until Ctrl-C"),
    ("config", "otel_pipeline.cli.config", "print every option, its value and where it comes from"),
    ("contract", "otel_pipeline.cli.contract", "record what a topic's values look like, check them, compare contracts"),
)
_CANNOT = 2
"""The exit code where nothing can be said of what was asked: no such file, nobody answers. argparse has it as well."""
_BROKEN_PIPE = 141
_INTERRUPTED = 130
_LONGEST = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(words)
    if not words:
        parser.print_help()
        return 0
    arguments = parser.parse_args(words)
    with harmless_output():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except CommandError as error:
        print(f"otel-pipeline: {error}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
        return _CANNOT
    except BrokenPipeError:
        # The reader, `head` for example, has had enough; without this Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        _own_up(error)
        return _CANNOT
    return code


def _own_up(error: Exception) -> None:
    """Say that it is a fault of ours, in two lines: whoever called the command cannot put it right."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    print(
        f"otel-pipeline: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}, a fault of otel-pipeline: "
        f"{str(error)[:_LONGEST]}\n  please report it with what `python -X dev -m otel_pipeline ...` prints",
        file=sys.stderr,
    )


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser with the one subcommand that `words` asks for, and only the names of the others."""
    parser = argparse.ArgumentParser(
        prog="otel-pipeline", description="One trace from laptop to production for AI on streams."
    )
    parser.add_argument("--version", action="version", version=f"otel-pipeline {VERSION}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, module, line in COMMANDS:
        if find_spec(module) is None:
            continue
        if name == asked:
            import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=line)
    return parser


if __name__ == "__main__":
    sys.exit(main())
