"""What a model call costs: a patched method, beside the same method bare and beside `begin()` and `finish()`.

    python scripts/bench_models.py [--quick] [--against FOLDER]

Inside of a delivery, recorded and not, one case after the other in each round; thread CPU, the median of the rounds.
`--against` names another checkout: its `begin()` and `finish()` run in a process of their own, in the same rounds.
Quote ratios: single times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = "off"
sys.path.insert(0, str(Path(__file__).parent))

from bench import _Providers

import otel_pipeline
from otel_pipeline.engine import inference

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 2_000


class Model:
    """Stands for a model of any library."""

    def predict(self, data: Any) -> Any:
        """Return what it was given."""
        return data


class Patched(Model):
    """The same, patched."""


class Rows:
    """What has rows, as an array has."""

    shape = (1, 4)


def spent(call: Callable[[], Any]) -> float:
    """Return the thread's CPU time for one call, ns."""
    began = time.thread_time_ns()
    for _ in range(CALLS):
        call()
    return (time.thread_time_ns() - began) / CALLS


def by_hand() -> Callable[[], Any]:
    """Return a call that is begun and finished by hand."""
    inferences: Any = inference._inferences
    return lambda: inferences.begin("Model", operation="predict", library="bench", rows=1).finish()


def cases(pipe: Any) -> dict[str, Callable[[], Any]]:
    """Return what is measured."""
    from otel_pipeline.engine.model_methods import ModelMethods
    from otel_pipeline.engine.prepared import inside

    inferences: Any = inference._inferences
    methods = ModelMethods(inferences, pipe._guard, "bench", "bench")
    method: Any = Model.predict
    Patched.predict = methods.around("predict", lambda args, _kwargs: args[0].shape[0], method)  # type: ignore[method-assign]
    bare, patched, data = Model(), Patched(), Rows()

    def nested() -> None:
        inside.model = "outer"
        patched.predict(data)
        inside.model = None

    def flags() -> None:
        inside.model = "outer"
        bare.predict(data)
        inside.model = None

    return {
        "bare": lambda: bare.predict(data),
        "by hand": by_hand(),
        "patched": lambda: patched.predict(data),
        "nested": nested,
        "nested, bare": flags,
    }


def worker(rate: float) -> None:
    """Measure `begin()` and `finish()` once for each line that is read."""
    otel_pipeline.instrument(
        "bench", environment="production", libraries=["kafka"], _providers=_Providers(rate, ours=True)
    )
    call = by_hand()
    with otel_pipeline.process(_message()):
        for _ in sys.stdin:
            print(spent(call), flush=True)


def _message() -> Any:
    from kafka.consumer.fetcher import ConsumerRecord

    now_ms = int(time.time() * 1000) - 50
    known: dict[str, Any] = {
        "topic": "orders",
        "partition": 0,
        "offset": 1,
        "timestamp": now_ms,
        "timestamp_type": 0,
        "value": b"x",
    }
    return ConsumerRecord(
        **{name: known.get(name, [] if name == "headers" else None) for name in ConsumerRecord._fields}
    )


def measured(rate: float, rounds: int, against: str | None) -> dict[str, float]:
    """Return the median of each case, ns."""
    providers = _Providers(rate, ours=True)
    pipe = otel_pipeline.instrument("bench", environment="production", libraries=["kafka"], _providers=providers)
    calls, found = cases(pipe), {}
    other = None
    if against is not None:
        command = [sys.executable, __file__, "--worker", str(rate)]
        environ = {**os.environ, "PYTHONPATH": against}
        other = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found = {name: [] for name in (*calls, *(["by hand, before"] if other else []))}
    with otel_pipeline.process(_message()):
        for _ in range(rounds):
            for name, call in calls.items():
                found[name].append(spent(call))
            if other is not None and other.stdin is not None and other.stdout is not None:
                print(file=other.stdin, flush=True)
                found["by hand, before"].append(float(other.stdout.readline()))
    if other is not None:
        other.communicate()
    pipe.uninstrument()
    providers.flush(5)
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--against", help="the folder of another checkout")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        worker(options.worker)
        return 0
    for rate, word in ((0.0, "not recorded"), (1.0, "recorded")):
        ns = measured(rate, 7 if options.quick else 31, options.against)
        print(f"{word}: " + ", ".join(f"{name} {value:.0f} ns" for name, value in ns.items()))
        added = ns["patched"] - ns["bare"]
        of = ns.get("by hand, before", ns["by hand"])
        print(f"  a patched call adds {added:.0f} ns, {added / of:.2f} of a begin() and finish()", end="")
        print(f"; a nested one {ns['nested'] - ns['nested, bare']:.0f} ns")
        print(json.dumps({"rate": rate, **{name: round(value) for name, value in ns.items()}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
