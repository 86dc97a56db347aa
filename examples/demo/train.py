"""Trains the model when the scorer starts, on half of the images. `python train.py` says how good it is on the rest."""

from __future__ import annotations

from typing import Any

from digits import clean, scans, trained_on
from sklearn.svm import SVC


def train() -> Any:
    """Train a classifier of cleaned digits."""
    known = [scan for scan in scans() if trained_on(scan["image"])]
    model = SVC(gamma=0.256)
    model.fit([clean(scan) for scan in known], [scan["label"] for scan in known])
    return model


if __name__ == "__main__":
    unknown = [scan for scan in scans() if not trained_on(scan["image"])]
    accuracy = train().score([clean(scan) for scan in unknown], [scan["label"] for scan in unknown])
    print(f"accuracy {accuracy:.1%} of {len(unknown)} images it was not trained on")
