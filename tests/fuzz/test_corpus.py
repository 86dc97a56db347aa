"""The corpus, replayed without a fuzzer; and any few bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.run import CORPUS, all_targets
from tests.fuzz.targets import BUILT, TARGETS

INPUTS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("name", INPUTS)
def test_the_corpus(name):
    """What was found once, and what is known to be read: nothing is wrong with any of it."""
    target, data = Path(name).parent.name, (CORPUS / name).read_bytes()
    run = TARGETS[target] if target in TARGETS else BUILT[target].hypothesis.fuzz_one_input
    run(data)


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes(target):
    """As hypothesis draws them."""

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=200))
    def run(data):
        TARGETS[target](data)

    run()


def test_each_target_has_a_corpus():
    """The driver takes the targets from its folders."""
    assert all_targets() == sorted({*TARGETS, *BUILT})
