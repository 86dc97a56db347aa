"""Random numbers, for ids above all; a forked child draws others than its parent.

The generator is our own: an application that seeds the shared one would give the same ids to all its processes; and it
would not have the same numbers each time, where a thread of ours draws some of them.
"""

from __future__ import annotations

from random import Random

from otel_pipeline.engine.forks import forks

_ids = Random()  # noqa: S311 - ids are no secrets
forks.add(_ids.seed)
getrandbits, randrange, uniform = _ids.getrandbits, _ids.randrange, _ids.uniform
