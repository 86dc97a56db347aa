"""The file that a model was loaded from: its name, a version of its content, its age."""

from __future__ import annotations

import hashlib
import os
import time
from itertools import count
from pathlib import Path

import pytest

from otel_pipeline.engine import model_files
from otel_pipeline.engine.model_files import MAX_HASHED_BYTES, MAX_HASHING_MS, ModelFile, is_generic, name_of, read
from tests.limits import below_at_above

WRITTEN_S = 1_750_000_000


@pytest.fixture
def file(tmp_path):
    """A file of a model, written at a known time."""
    made = tmp_path / "churn-v3.onnx"
    made.write_bytes(b"weights")
    os.utime(made, (WRITTEN_S, WRITTEN_S))
    return made


def test_what_is_known_of_a_file(file):
    """Its name without endings, the beginning of its hash, when it was written."""
    version = hashlib.sha256(b"weights").hexdigest()[:8]

    assert read(str(file)) == read(file) == ModelFile("churn-v3", version, WRITTEN_S)


@pytest.mark.parametrize("given", [b"bytes of a model", None, 7, memoryview(b"x")])
def test_what_is_no_path_is_not_read(given):
    """A buffer, say."""
    assert read(given) is None


def test_what_is_no_file_is_not_read(tmp_path):
    """A folder, or what no longer is there; a pipe would block."""
    os.mkfifo(tmp_path / "pipe")

    assert [read(tmp_path), read(tmp_path / "pipe")] == [None, None]
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone")


@below_at_above("engine.model_files.MAX_HASHED_BYTES", 64 * 1024 * 1024, "hash", "hash", "size")
def test_how_large_a_file_is_hashed(tmp_path, size, outcome):
    """Larger ones are told by size and time of writing."""
    large = tmp_path / "large.bin"
    with large.open("wb") as sparse:
        sparse.truncate(size)
    os.utime(large, (WRITTEN_S, WRITTEN_S))
    version = read(large, max_ms=60_000).version

    assert (len(version) == 8, version == f"{size}-20250615T150640Z") == (outcome == "hash", outcome == "size")


@below_at_above("engine.model_files.MAX_HASHING_MS", 100, "hash", "hash", "size")
def test_how_long_a_file_is_hashed(file, size, outcome):
    """What takes longer is told by size and time of writing: the application waits for it."""
    ticks = iter([0, size * 1_000_000, *[size * 1_000_000] * 9])
    version = read(file, now_ns=lambda: next(ticks)).version

    assert version == (hashlib.sha256(b"weights").hexdigest()[:8] if outcome == "hash" else "7-20250615T150640Z")


def test_the_limits_are_as_said():
    """64 MB and 100 ms."""
    assert (MAX_HASHED_BYTES, MAX_HASHING_MS) == (64 * 1024 * 1024, 100)


def test_it_stops_reading_in_time(tmp_path, monkeypatch):
    """A file on a slow disk is not read to its end."""
    large = tmp_path / "large.bin"
    large.write_bytes(b"x" * 100)
    monkeypatch.setattr(model_files, "_BLOCK_BYTES", 10)
    looks = count()
    read(large, max_ms=3, now_ns=lambda: next(looks) * 1_000_000)

    assert next(looks) == 5


@pytest.mark.parametrize(
    ("written_s", "known"),
    [(0, False), (315_532_800, False), (315_619_200, False), (315_619_201, True), ("tomorrow", False)],
)
def test_times_that_say_nothing(file, written_s, known):
    """1970 and 1980 stand for "not kept"; what is written tomorrow has a clock that is wrong."""
    at_s = time.time() + 86_400 if written_s == "tomorrow" else written_s
    os.utime(file, (at_s, at_s))

    assert (read(file).written_s is not None) == known


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/churn-v3.onnx", "churn-v3"),
        ("/models/churn/3/model.onnx", "churn"),
        ("/models/churn/v3/pytorch_model.bin", "churn"),
        ("/models/churn.v3.ubj", "churn"),
        ("/models/fraud.tar.gz", "fraud"),
        ("/runs/fraud/checkpoint-500/model.safetensors", "fraud"),
        ("/runs/fraud/best_model_final.pt", "fraud"),
        ("/x/models--org--mini-lm/snapshots/0123456789abcdef0123/model.onnx", "org/mini-lm"),
        ("/tmp/tmpab12/model.json", None),  # noqa: S108 - not used
        ("/home/alice/model.onnx", None),
        ("/app/model.onnx", None),
        ("/a/b/c/d/e/1/2/3/4/5/model.onnx", None),
        ("/", None),
    ],
)
def test_the_name_of_a_file(path, name):
    """The nearest that says which model it is; a generic name is none."""
    assert name_of(Path(path)) == name


def test_a_long_name_is_judged_at_once():
    """No name takes longer than its length."""
    assert (is_generic("1" * 100_000 + "x"), is_generic("model" * 20_000 + "!")) == (False, False)
