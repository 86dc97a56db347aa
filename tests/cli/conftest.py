from __future__ import annotations

import json
import time

import pytest


@pytest.fixture
def telemetry(tmp_path, monkeypatch):
    """An empty state folder, a fixed time zone; returns a function that writes lines as one service's file."""
    monkeypatch.setenv("OTEL_PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    folder = tmp_path / "telemetry"

    def write(lines, name="scorer-1-1.jsonl"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder / name

    yield write
    monkeypatch.undo()
    time.tzset()
