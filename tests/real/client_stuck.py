"""What a test of a rebalance meets, on a busy machine, that is not ours."""

from __future__ import annotations


class ClientStuckError(AssertionError):
    """kafka-python lost track of a rebalance, as it does without us: 1 of 16 groups under load, bare and with us, with 3.0.12.

    A metadata update that comes while it joins the group is ignored, and it goes on without its partitions for ever.
    """
