"""Real input: the 1,797 scanned digits that scikit-learn ships, 8 x 8 pixels from 0 to 16, and how they are cleaned."""

from __future__ import annotations

from typing import Any

WHITE = 16
"""The full brightness of these scans. Most scanners have another."""
_USUAL_WHITE = 255


def scans() -> list[dict[str, Any]]:
    """Make messages of the scans: number, pixels, their full brightness, and the digit that a person saw in them."""
    from sklearn.datasets import load_digits  # `features` does without scikit-learn

    found = load_digits()
    return [
        {"image": number, "pixels": pixels.tolist(), "white": WHITE, "label": int(label)}
        for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True))
    ]


def clean(scan: dict[str, Any]) -> list[float]:
    """Make one row of 64 numbers from 0 to 1. A scan that does not say how bright it is counts as a usual one."""
    white = scan.get("white")
    if not isinstance(white, int):
        white = _USUAL_WHITE
    return [min(max(value / white, 0.0), 1.0) for row in scan["pixels"] for value in row]


def trained_on(image: int) -> bool:
    """Tell whether the model is trained on this image: on every second one; accuracy is measured on the others."""
    return image % 2 == 0
