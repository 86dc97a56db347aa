"""The command `python -m otel_pipeline.testing.faults`: its options are the faults' own words."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from otel_pipeline.testing.faults.options import CHANGES, FaultsError
from otel_pipeline.testing.faults.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Mapping

_ARGUMENTS = {
    "drop": ("SHARE", "not written"),
    "duplicate": ("SHARE", "written twice in a row"),
    "reorder": ("SHARE", "written later than others of the partition"),
    "displacement": ("MESSAGES", "that a reordered one lets pass, at most (10)"),
    "delay": ("SECONDS", "kept for that time, in order"),
    "delay_share": ("SHARE", "that is delayed (1)"),
    "freeze": ("SECONDS", "in which nothing is relayed"),
    "freeze_at": ("MESSAGE", "before which it freezes, counted from 1 (at once)"),
    "change_field": ("PATH", "of a field of JSON values, for example customer.name"),
    "change": ("CHANGE", f"{', '.join(CHANGES)} (null)"),
    "change_to": ("NAME", "with --change rename"),
    "change_share": ("SHARE", "that is changed (1)"),
    "foreign_environment": ("NAME", "that the data-flow header names instead of its own"),
    "foreign_environment_share": ("SHARE", "that names it (1)"),
    "first": ("OFFSET", "of the source from which on faults apply"),
    "last": ("OFFSET", "of the source up to which they apply"),
    "partition": ("NUMBER", "the only one they apply to"),
}
_EXIT_FAILED, _EXIT_OPTION = 1, 2


def main(argv: list[str] | None = None) -> int:
    """Relay until the time is over, or until Ctrl-C, then print the exact counts as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m otel_pipeline.testing.faults",
        description="Relay one topic to another with faults, and count exactly what was injected.",
        epilog="Shares are numbers from 0 to 1. Ends after --seconds, or with Ctrl-C.",
    )
    parser.add_argument("--bootstrap-servers", required=True, metavar="ADDRESS")
    parser.add_argument("--source", required=True, metavar="TOPIC")
    parser.add_argument("--destination", required=True, metavar="TOPIC")
    parser.add_argument("--seed", type=_number, default=0, help="the same one chooses the same messages (0)")
    parser.add_argument("--seconds", type=_number, help="to run (until Ctrl-C)")
    parser.add_argument("--latest", action="store_true", help="only what is sent from now on")
    parser.add_argument("--client-setting", action="append", default=[], metavar="NAME=VALUE", help="of librdkafka")
    for name, (metavar, meaning) in _ARGUMENTS.items():
        text = name in {"change_field", "change", "change_to", "foreign_environment"}
        parser.add_argument(f"--{name.replace('_', '-')}", type=str if text else _number, metavar=metavar, help=meaning)
    given = vars(parser.parse_args(argv))
    try:
        relay = _relay_of(given)
        seconds = _seconds(given["seconds"])
        relay.start()
    except FaultsError as error:
        option = f"--{error.option.replace('_', '-').replace('settings', 'setting')}: " if error.option else ""
        print(f"{option}{error.message}", file=sys.stderr)  # noqa: T201
        return _EXIT_OPTION if error.option else _EXIT_FAILED
    return _serve(relay, seconds)


def _relay_of(given: Mapping[str, Any]) -> Relay:
    faults: Any = {name: given[name] for name in _ARGUMENTS if given[name] is not None}
    if not isinstance(given["seed"], int):
        raise FaultsError(f"{given['seed']!r} is no seed: give a whole number", "seed")
    settings = {}
    for setting in given["client_setting"]:
        name, equals, value = setting.partition("=")
        if not equals:
            raise FaultsError(f"{setting!r} is no setting: write it as security.protocol=SSL", "client_settings")
        settings[name] = value
    return Relay(
        given["bootstrap_servers"],
        given["source"],
        given["destination"],
        seed=given["seed"],
        auto_offset_reset="latest" if given["latest"] else "earliest",
        client_settings=settings,
        **faults,
    )


def _number(text: str) -> float | str:
    """Read a number; what is none stays text, and is refused in the option's own words where all are checked."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _seconds(given: Any) -> float:
    if given is None:
        return float("inf")
    if isinstance(given, str) or not given > 0:
        raise FaultsError(f"{given!r} is no time: give seconds, more than 0, for example 60", "seconds")
    return float(given)


def _serve(relay: Relay, seconds: float) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    deadline = time.monotonic() + seconds
    while relay.running and not ended.is_set() and time.monotonic() < deadline:
        ended.wait(min(0.2, max(0.0, deadline - time.monotonic())))
    code = 0
    try:
        relay.stop()
    except FaultsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        code = _EXIT_FAILED
    print(json.dumps(asdict(relay.injected)))  # noqa: T201
    return code
