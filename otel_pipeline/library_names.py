"""The names that configuration may use for libraries: any that a library is known by, in any spelling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otel_pipeline.settings import Doubt

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY = "*"
GENAI = "genai"
"""All official instrumentations of generative models."""
THREADING = "threading"
"""What is in hand goes along into the threads of a pool; OpenTelemetry's own instrumentation has this name."""
OFFICIAL = ("anthropic", "google-genai", "langchain", "openai", "openai-agents", "vertexai", "weaviate")
"""Libraries that have one, whether or not it is installed here: one file serves many services."""


def plain(name: str) -> str:
    """Return the name in the spelling in which names are compared: the package index's (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def spelled(names: Iterable[str]) -> frozenset[str]:
    """Return these names in that spelling."""
    return frozenset(map(plain, names))


def doubt(name: str, known: Iterable[str], shown: Iterable[str]) -> Doubt | None:
    """Say what is wrong with a name; None where it is a known one.

    Args:
        name: as configuration has it.
        known: all names that libraries are known by.
        shown: the names that people are told.
    """
    names = {plain(each): each for each in (*known, *shown, EVERY, GENAI, THREADING, *OFFICIAL)}
    if plain(name) in names or name.strip() == EVERY:
        return None
    from difflib import get_close_matches  # Only where something is misspelt.

    close = get_close_matches(plain(name), names, n=1, cutoff=0.75)
    if close:
        return Doubt("is no library", f"did you mean {names[close[0]]}?", is_near=True)
    return Doubt("is no library that is instrumented", f"remove it; there are {', '.join(shown)}", is_near=False)
