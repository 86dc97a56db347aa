"""`otel-pipeline config`: every option with value and source; `config check`: every mistake with line and remedy."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.output import as_json
from otel_pipeline.config import environment as environments
from otel_pipeline.config.general import ENVIRONMENT
from otel_pipeline.config.loading import load, table_of
from otel_pipeline.config.schema import schema
from otel_pipeline.owners import settings_classes

if TYPE_CHECKING:
    import argparse

    from otel_pipeline.config.config import Config


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "config",
        help="print every option, its value and where it comes from",
        description="Print every option with its value and source, as a service started in this folder would have it.",
    )
    parser.add_argument("--file", metavar="PATH", help="the configuration file; otherwise it is looked for")
    parser.add_argument("--environment", metavar="NAME", help="what it would be there")
    parser.add_argument("--diff", nargs=2, metavar=("ONE", "OTHER"), help="what differs between two environments")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the file, for editors")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(metavar="")
    check = actions.add_parser("check", help="name every mistake with line and remedy; exit code 1 if there is one")
    check.add_argument("path", nargs="?", metavar="FILE", help="the file; otherwise it is looked for")
    check.set_defaults(run=run_check)


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for."""
    if arguments.schema:
        print(as_json(schema(table_of(settings_classes(_left_out)))))
        return 0
    if arguments.diff:
        return _diff(arguments)
    config = _load(arguments.file, arguments.environment)
    if arguments.json:
        print(as_json(_as_json(config)))
    else:
        _print(config)
    _complain(config)
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Print every mistake; 1 if there is one."""
    config = _load(arguments.path, None)
    if config.file is None and not config.problems:
        raise CommandError(
            "\n  ".join(
                ("no otel_pipeline.yaml in this folder, or above it in its repository, is read", *config.overridden)
            ),
            "name the file: otel-pipeline config check FILE",
        )
    _complain(config)
    if not config.problems:
        print(f"{config.file}: no mistake")
    return 1 if config.problems else 0


def _load(file: str | None, environment: str | None) -> Config:
    arguments = {name: value for name, value in (("config_file", file), ("environment", environment)) if value}
    owners = settings_classes(_left_out)
    if environment is not None:
        # Every other source of the environment's name is out of the question: this asks "what if".
        around = replace(environments.surroundings(), environ={})
        return load(arguments, owners, around=around, directory=Path.cwd(), raises=False)
    return load(arguments, owners, directory=Path.cwd(), raises=False)


def _left_out(_key: str, message: str) -> None:
    print(message, file=sys.stderr)


def _print(config: Config) -> None:
    name = config.resolved.name or "no environment"
    print(f"# {name}: {config.resolved.reason}")
    print(f"# file: {config.file or 'none'}")
    rows = [(path, _shown(config, path), _source(config, path)) for path in _listed(config)]
    widths = [max(len(row[at]) for row in rows) for at in (0, 1)]
    for path, value, source in rows:
        print(f"{path:<{widths[0]}}  {value:<{widths[1]}}  {source}")
    for said in config.overridden:
        print(f"# {said}")


def _diff(arguments: argparse.Namespace) -> int:
    one, other = (_load(arguments.file, name) for name in arguments.diff)
    # A mapping that is empty in one of them has a row of its own there: what it lacks is seen by the other's rows.
    paths = [
        path for path in dict.fromkeys((*_listed(one), *_listed(other))) if path not in (ENVIRONMENT, *one.table.named)
    ]
    rows = [
        (path, _shown(one, path), _shown(other, path))
        for path in paths
        if one.values.get(path) != other.values.get(path)
    ]
    if arguments.json:
        print(as_json({path: dict(zip(arguments.diff, values, strict=True)) for path, *values in rows}))
        return 0
    rows.insert(0, ("", *arguments.diff))
    widths = [max(len(row[at]) for row in rows) for at in (0, 1)]
    for path, left, right in rows:
        print(f"{path:<{widths[0]}}  {left:<{widths[1]}}  {right}".rstrip())
    if len(rows) == 1:
        print("nothing differs")
    return 0


def _listed(config: Config) -> list[str]:
    rows = config.table.rows
    return [path for path in config.values if path not in rows or rows[path].option.in_file]


def _source(config: Config, path: str) -> str:
    source = config.sources[path]
    if source.kind == "argument":
        return "as asked" if path == ENVIRONMENT else str(source)
    return str(source)


def _shown(config: Config, path: str) -> str:
    value = _value(config, path)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "-"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(str, value)) + "]"
    kind = config.kinds.get(path)
    return kind.written(value) if kind is not None else str(value)


def _as_json(config: Config) -> dict[str, Any]:
    return {path: {"value": _value(config, path), "source": _source(config, path)} for path in _listed(config)}


def _value(config: Config, path: str) -> Any:
    """Return the value as it may be shown."""
    kind, value = config.kinds.get(path), config.values.get(path)
    return value if kind is None else kind.shown(value)


def _complain(config: Config) -> None:
    for problem in config.problems:
        text = str(problem).replace(f"{Path.cwd()}{os.sep}", "")
        print(text, file=sys.stderr)
