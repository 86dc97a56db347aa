"""Real input: the 1,797 scanned digits that scikit-learn ships, 8 x 8 pixels of 0 to 16, and how they are cleaned."""

from __future__ import annotations

from typing import Any

WHITE = 16.0


def scans() -> list[dict[str, Any]]:
    """The scans as messages: number, pixels and the digit that a person saw in them."""
    from sklearn.datasets import load_digits  # `features` does without scikit-learn

    found = load_digits()
    return [
        {"image": number, "pixels": pixels.tolist(), "label": int(label)}
        for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True))
    ]


def clean(pixels: list[list[float]]) -> list[float]:
    """One row of 64 numbers from 0 to 1."""
    return [min(max(value / WHITE, 0.0), 1.0) for row in pixels for value in row]


def trained_on(image: int) -> bool:
    """Every second image; accuracy is measured on the others."""
    return image % 2 == 0
