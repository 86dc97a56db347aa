"""Hours of healthy traffic, simulated: how often a light is red. `python -m tests.verdict.healthy --hours 1000`.

Day and night, bursts, slow messages, deployments on both sides, rebalances, restarts, short pauses, brokers that are
restarted.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import random
import sys
from collections import Counter

from tests.verdict.simulation import Simulation

HOUR_S = 3600
CALM_S = 10.0
"""How often is looked while nothing is amber, has changed within a minute, or is about to: no red comes sooner."""
STIRRED_S = 60.0
LONGEST_S = 25.0
"""That a healthy handler takes for one message: its calls have time-outs. The first one of over 30 s is red by its row."""


class Process(Simulation):
    """Looked at once a second while anything stirs."""

    def _looks(self):
        self.flows.look()
        while True:
            yield 1.0 if self._stirs() else CALM_S
            self.look()

    def _stirs(self):
        last_s = self.seen[-1][0] if self.seen else 0
        if self.at_s - last_s < STIRRED_S or any(state == "amber" for state, _ in self._was.values()):
            return True
        return not all(map(self._verdict.is_settled, self._verdict._flows))


def _application(found, dice):
    """One of the ways in which messages are handled; each keeps up with what comes."""
    kind = dice.choice(["iterator", "poller", "pool"])
    mean_s = dice.choice([0.001, 0.01, 0.03])

    def work(_message):
        # One of some hundred messages takes a hundred times as long.
        return min(LONGEST_S, mean_s * dice.lognormvariate(0, 0.7) * (100 if dice.random() < 0.003 else 1))

    if kind == "iterator":
        return found.iterator(work)
    if kind == "poller":
        return found.poller(work, sleep_s=dice.choice([0.0, 0.0, 1.0, 3.0]))
    return found.pool(work, dice.choice([2, 8]))


def _life(found, dice, *, partitions):
    """What happens to a process that nobody would call harm."""
    while True:
        yield dice.expovariate(1 / 600)
        what = dice.choice(["burst", "pause", "broker", "rebalance", "quiet"])
        if what == "burst":
            found.write(dice.randrange(50, 250))
        elif what == "pause":
            for each in found.partitions.values():
                each.paused = True
            yield dice.uniform(1, 8)
            for each in found.partitions.values():
                each.paused = False
        elif what == "broker":
            found.broker_up = False
            yield dice.uniform(1, 8)
            found.broker_up = True
        elif what == "rebalance" and partitions > 1:
            # Another member has one of the partitions for a while, and processes what is written there.
            taken = found.partitions.pop(dice.randrange(partitions), None)
            if taken is not None:
                yield dice.uniform(5, 300)
                taken.position = taken.fetched = taken.end
                found.partitions[taken.number] = taken


def process(seed, hours):
    """A process's life from its start, which a deployment ends; returns the lights that were red."""
    dice = random.Random(seed)
    partitions = dice.choice([1, 3, 6])
    found = Process(partitions=partitions, threshold_s=60.0, seed=seed)
    rate = dice.choice([0.02, 0.3, 2.0, 5.0])
    phase = dice.uniform(0, 2 * math.pi)
    found.spawn(_producers(found, dice, lambda at_s: rate * (1 + 0.9 * math.sin(phase + at_s * 2 * math.pi / 86_400))))
    found.backlog(dice.choice([0, 0, 20]))  # What came while its predecessor was being replaced.
    found.spawn(_application(found, dice))
    found.spawn(_life(found, dice, partitions=partitions))
    found.run(hours * HOUR_S)
    return [each for each in found.seen if each[2] == "red"]


def _producers(found, dice, rate):
    """One after the other: each deployment's has an id of its own, and numbers from 1 on."""
    for producer in itertools.count(7):
        yield from found.producer(rate, until_s=found.at_s + dice.uniform(1_800, 20_000), producer=producer)
        yield dice.uniform(0, 20)


def lives(hours, seed):
    """Processes one after the other: (seed, hours)."""
    seeds, left = random.Random(seed), hours
    while left > 0:
        life = seeds.randrange(1_000_000), min(left, seeds.choice([0.2, 1.0, 4.0, 12.0]))
        left -= life[1]
        yield life


def _reds(life):
    return life, process(*life)


def main():
    """Simulate, and print what was red; the exit code is 1 where something was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="side by side; what is simulated is the same")
    arguments = parser.parse_args()
    reds, past = Counter(), 0.0
    with multiprocessing.Pool(arguments.processes) as pool:
        for (seed, hours), found in pool.imap_unordered(_reds, list(lives(arguments.hours, arguments.seed))):
            past += hours
            for at_s, name, _, row, why in found:
                reds[name, row] += 1
                sys.stdout.write(f"seed {seed} of {hours:g} hours, after {at_s} s: {name}, {row}: {why}\n")
            sys.stderr.write(f"{past:g} hours\n")
    sys.stdout.write(f"{sum(reds.values())} red in {past:g} hours {dict(reds)}\n")
    return 1 if reds else 0


if __name__ == "__main__":
    raise SystemExit(main())
