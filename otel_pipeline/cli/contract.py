"""`otel-pipeline contract`: record what a topic's values look like, check them against it, compare two contracts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.output import as_json
from otel_pipeline.contracts.comparing import compare, verdict
from otel_pipeline.contracts.contract import Contract
from otel_pipeline.contracts.files import file_of, read
from otel_pipeline.contracts.learning import REQUIRED_PARENTS, ContractLearner
from otel_pipeline.contracts.measures import BREAKS, UNREADABLE
from otel_pipeline.contracts.paths import ROOT, ContractError
from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from otel_pipeline.contracts.comparing import Change

_HOLDS = {"full": {"full", "backward", "forward"}, "backward": {"backward"}, "forward": {"forward"}, "none": set[str]()}
"""Which requirements hold, by verdict."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "contract",
        help="record what a topic's values look like, check them against it, compare two contracts",
        description="A contract is which fields a topic's values have, of which types, and which are always there: "
        "shape only, never values. It lies in contracts/<topic>.json, beside the code.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    record = actions.add_parser("record", help="read a topic from its beginning and write its contract")
    record.add_argument("topic", metavar="TOPIC")
    _add_reading(record, messages=1000, waits="go on reading what comes, for so long; otherwise up to the topic's end")
    record.set_defaults(run=run_record)
    check = actions.add_parser("check", help="compare a topic's newest values; exit code 1 if one breaks its contract")
    check.add_argument("topics", nargs="*", metavar="TOPIC", help="otherwise every topic that has a contract")
    _add_reading(check, messages=100, waits="read what comes too, for so long at most; otherwise up to the topic's end")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=run_check)
    diff = actions.add_parser(
        "diff",
        help="say who can read whom; needs no traffic",
        description="backward: readers with the new contract read values of the old one, forward: readers with the old "
        "one read values of the new.",
    )
    diff.add_argument("old", metavar="OLD", help="a file")
    diff.add_argument("new", metavar="NEW", help="a file")
    diff.add_argument("--require", choices=("backward", "forward", "full"), help="exit code 1 if that does not hold")
    diff.add_argument("--json", action="store_true", help="print JSON")
    diff.set_defaults(run=run_diff)


def run_record(arguments: argparse.Namespace) -> int:
    """Write down what the values of a topic look like."""
    from otel_pipeline.cli.contract_topics import TopicValues  # it needs kafka-python

    topic = arguments.topic
    path = _path(_directory(arguments), topic)
    values = TopicValues(arguments.bootstrap_servers, arguments.client)
    try:
        learner = ContractLearner(topic)
        for value, _ in values.oldest(topic, arguments.messages, arguments.seconds):
            learner.learn(value)
    finally:
        values.close()
    if not learner.learned:
        raise CommandError(
            f"no value of {topic!r} could be read: " + (_not_json(values.unreadable) or "there are none"),
            "--seconds S waits for messages" if not values.unreadable else "contracts are of topics with JSON values",
        )
    contract = Contract(topic, learner.contract().fields)
    before = _read(path, "--directory") if path.exists() else None
    _write(path, contract)
    print(f"{path}: {learner.learned} messages, {len(contract.fields)} paths, {contract.hash}")
    if values.unreadable:
        print(f"  left out: {_not_json(values.unreadable)}")
    if learner.learned < REQUIRED_PARENTS:
        print(f"  no field is required yet: that takes {REQUIRED_PARENTS} messages, see --messages and --seconds")
    if before is not None and before.fields != contract.fields:
        changes = compare(before, contract)
        print(f"  compared with what was there: {verdict(changes)}")
        _print_changes(changes)
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Compare the newest values of topics with their contracts; 1 if one breaks."""
    from otel_pipeline.cli.contract_topics import TopicValues  # it needs kafka-python

    directory = _directory(arguments)
    topics = arguments.topics or sorted(path.stem for path in directory.glob("*.json"))
    if not topics:
        raise CommandError(
            f"there is no contract in {directory}",
            "`otel-pipeline contract record TOPIC` writes one; those elsewhere: --directory PATH",
        )
    contracts = [_read(_path(directory, topic), "--directory") for topic in topics]
    values = TopicValues(arguments.bootstrap_servers, arguments.client)
    try:
        found = [
            _checked(values, topic, contract, arguments) for topic, contract in zip(topics, contracts, strict=True)
        ]
    finally:
        values.close()
    if arguments.json:
        print(as_json(found))
    else:
        _print_checked(found)
    return int(any(row["breaks"] for topic in found for row in topic["differences"]))


def run_diff(arguments: argparse.Namespace) -> int:
    """Compare two files; 1 if what is required does not hold."""
    old, new = _read(Path(arguments.old), "OLD"), _read(Path(arguments.new), "NEW")
    changes = compare(old, new)
    held = verdict(changes)
    if arguments.json:
        print(as_json({"verdict": held, "changes": [change._asdict() for change in changes]}))
    else:
        _print_changes(changes)
        print(_VERDICTS[held] if changes else "nothing changed")
    return int(arguments.require is not None and arguments.require not in _HOLDS[held])


_VERDICTS = {
    "full": "full: each side can read the other's values",
    "backward": "backward: readers with the new contract can read old values, not the other way round; "
    "update consumers first",
    "forward": "forward: readers with the old contract can read new values, not the other way round; "
    "update producers first",
    "none": "none: neither side can be sure to read the other's values",
}


def _add_reading(parser: argparse.ArgumentParser, *, messages: int, waits: str) -> None:
    parser.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT", help="of the Kafka cluster")
    parser.add_argument(
        "--messages", type=int, default=messages, metavar="N", help=f"at most so many (default {messages})"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help=waits)
    parser.add_argument(
        "--directory", metavar="PATH", help="of the contracts; otherwise contracts.directory of the configuration"
    )
    parser.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of kafka-python's consumer, security_protocol=SSL for example; may be repeated",
    )


def _checked(values: Any, topic: str, contract: Contract, arguments: argparse.Namespace) -> dict[str, Any]:
    """Count what differs in the newest values of one topic, by path and kind."""
    messages = 0
    counts: dict[tuple[str, str], int] = {}
    for value, _ in values.newest(topic, arguments.messages, arguments.seconds):
        messages += 1
        for difference in contract.differences(value):
            counts[difference] = counts.get(difference, 0) + 1
    if values.unreadable:
        messages += values.unreadable
        counts[ROOT, UNREADABLE] = values.unreadable
    rows = [
        {"path": path, "kind": kind, "messages": count, "breaks": kind in BREAKS}
        for (path, kind), count in sorted(counts.items())
    ]
    return {"topic": topic, "messages": messages, "differences": rows}


def _print_checked(found: Sequence[dict[str, Any]]) -> None:
    for topic in found:
        rows = topic["differences"]
        said = "no message to check" if not topic["messages"] else f"{topic['messages']} messages, "
        if topic["messages"]:
            said += f"{len(rows)} differences" if len(rows) > 1 else "1 difference" if rows else "no difference"
        print(f"{topic['topic']}: {said}")
        paths = [printable(row["path"]) for row in rows]
        width = max(map(len, paths), default=0)
        for path, row in zip(paths, rows, strict=True):
            print(
                f"  {path:<{width}}  {row['kind']:<13}  in {row['messages']} of {topic['messages']}"
                + ("  breaks" if row["breaks"] else "")
            )


def _print_changes(changes: Sequence[Change]) -> None:
    paths = [printable(change.path) for change in changes]
    width = max(map(len, paths), default=0)
    for path, change in zip(paths, changes, strict=True):
        held = verdict([change])
        print(f"  {path:<{width}}  {change.what}: {'neither way' if held == 'none' else held}")


def _directory(arguments: argparse.Namespace) -> Path:
    if arguments.directory:
        return Path(arguments.directory)
    # Only without the option.
    from otel_pipeline.config.loading import load
    from otel_pipeline.contracts.settings import ContractSettings

    # What the file says beside is no matter here.
    config = load({}, (ContractSettings,), directory=Path.cwd(), raises=False)
    return config.of(ContractSettings).directory


def _path(directory: Path, topic: str) -> Path:
    """Return the file of a topic. A name with a slash would be a file elsewhere; Kafka has no such names."""
    path = file_of(directory, topic)
    if path is None:
        raise CommandError(f"{topic!r} is no name of a topic", "letters, digits, `.`, `_` and `-`")
    return path


def _read(path: Path, option: str) -> Contract:
    try:
        return read(path)
    except OSError as error:
        remedy = f"{option} names a file that can be read"
        if option == "--directory":
            remedy = f"`otel-pipeline contract record {path.stem}` writes it; where it lies elsewhere: --directory PATH"
        raise CommandError(f"{path} cannot be read: {error.strerror or error}", remedy) from None
    except ContractError as error:
        raise CommandError(
            f"{path} is no contract: {error}",
            f"{option} must be what `otel-pipeline contract record` writes; record it again, or correct it",
        ) from None


def _write(path: Path, contract: Contract) -> None:
    """Replace the file at once, so that nobody reads half of it."""
    half = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(contract.dumps(), "utf-8")
        half.replace(path)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror or error}", "--directory names a folder that can be written to"
        ) from None


def _not_json(count: int) -> str:
    if not count:
        return ""
    return f"{count} values are not JSON" if count > 1 else "1 value is not JSON"
