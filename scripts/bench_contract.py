"""Cost of comparing a value with its contract, ns, best of several runs: `python scripts/bench_contract.py`."""

from __future__ import annotations

import timeit
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.contracts.watch import ContractWatch

if TYPE_CHECKING:
    from collections.abc import Callable

ITEM = {"sku": "a", "count": 1, "price": 2.5}
VALUES: dict[str, Any] = {
    "flat, 5 fields": {"id": 1, "name": "a", "price": 1.5, "ok": True, "city": "x"},
    "order, 25 fields": {
        "order_id": "o-1",
        "customer": {"id": 7, "name": "a", "city": "Bern", "tags": ["a", "b"]},
        "items": [dict(ITEM) for _ in range(3)],
        "total": 6.5,
        "currency": "CHF",
        "at": "2026-01-01T00:00:00Z",
        "note": None,
        "flags": {"gift": True, "express": False},
    },
    "flat, 120 fields": {f"f{at}": at for at in range(120)},
}
SIZE_BYTES = 100


def best_ns(call: Callable[[], object], number: int) -> float:
    """Return the best time of one call, ns."""
    return min(timeit.repeat(call, number=number, repeat=7)) / number * 1e9


def main() -> None:
    """Print a line for each value, then what a whole stream pays."""
    print(f"{'':18}{'matches':>9}{'taken':>9}{'learn':>9}  ns")
    for name, value in VALUES.items():
        learner = ContractLearner("orders")
        for _ in range(1000):
            learner.learn(value)
        contract = learner.contract()
        watch = ContractWatch("orders", "consumer", contract=contract)

        def taken(watch: ContractWatch = watch, value: Any = value) -> None:
            watch.sampler.left = 1
            watch.check(value, SIZE_BYTES)

        row = (
            best_ns(lambda contract=contract, value=value: contract.matches(value), 20_000),  # type: ignore[misc]
            best_ns(taken, 10_000),
            best_ns(lambda learner=learner, value=value: learner.learn(value), 2_000),  # type: ignore[misc]
        )
        print(f"{name:18}" + "".join(f"{cost:9.0f}" for cost in row))
    _stream()


def _stream() -> None:
    """Print what checking adds to a consumer that works 10 us on each message, with sampling as it sets itself."""
    value = VALUES["order, 25 fields"]
    watch = ContractWatch("orders", "consumer")
    messages, checking_ns = 200_000, 0
    for at in range(messages):
        until_ns = perf_counter_ns() + 10_000
        while perf_counter_ns() < until_ns:
            pass
        started_ns = perf_counter_ns()
        watch.check(value, SIZE_BYTES)
        if at >= messages // 2:
            checking_ns += perf_counter_ns() - started_ns
    average_ns = checking_ns / (messages / 2)
    print(f"stream of orders, 10 us each: {average_ns:.0f} ns per message, one in {watch.sampler.every} compared")
    watch.sampler.left = 10**9
    print(f"a message that is not taken: {best_ns(lambda: watch.check(value, SIZE_BYTES), 100_000):.0f} ns")


if __name__ == "__main__":
    main()
