"""Makes text from outside harmless to whoever reads it on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Spell out control characters, those that change the direction of writing, and what cannot be seen."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )
