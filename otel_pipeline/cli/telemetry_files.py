"""Where telemetry lies on this machine, and how the spans that are wanted are read from it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.config.state_folder import demo_folder, telemetry_folder
from otel_pipeline.export.otlp_reader import SpanRecord, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What is parsed to find the newest traces: about two seconds' work. One that is asked for by id is found anywhere.
NEWEST_BYTES = 64 * 1024 * 1024


class TelemetryFiles:
    """The files to look into, newest first."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = sorted(paths, key=_modified, reverse=True)
        self.skipped_lines = 0

    def newest(self, limit_bytes: int = NEWEST_BYTES) -> list[Path]:
        """Return the newest files, up to a total size, but at least one."""
        taken: list[Path] = []
        room = limit_bytes
        for path in self.paths:
            room -= _size(path)
            if taken and room < 0:
                break
            taken.append(path)
        return taken

    def spans(self, paths: Iterable[Path] | None = None, *, containing: str = "") -> list[SpanRecord]:
        """Read the spans of all files, or of `paths`; only lines with the text `containing` in them are looked at."""
        found: list[SpanRecord] = []
        for path in self.paths if paths is None else paths:
            reading = read(path, containing=containing)
            try:
                found.extend(record for record in reading if isinstance(record, SpanRecord))
            except OSError as error:
                raise CommandError(f"cannot read {path}: {error.strerror}") from error
            self.skipped_lines += reading.skipped
        return found


def given(names: Iterable[str]) -> TelemetryFiles:
    """Take the files that the user named; of a folder its .jsonl and .json files."""
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = _lines_in(path)
            if not inside:
                raise CommandError(f"no .jsonl or .json file in {path}")
            paths.extend(inside)
        elif path.exists():
            paths.append(path)
        else:
            raise CommandError(f"there is no file {path}")
    return TelemetryFiles(paths)


def recorded(environ: Mapping[str, str] = os.environ) -> TelemetryFiles:
    """Find what services on this machine have written, and the newest run of the demo."""
    folder = telemetry_folder(environ)
    paths = [path for each in (folder, *_newest_demo(demo_folder(environ))) for path in _lines_in(each)]
    if not paths:
        raise CommandError(
            f"no telemetry in {folder}",
            "`otel-pipeline demo` makes some; a service with otel_pipeline.instrument() writes there\n"
            "  in the environment `local` while no collector listens; files from elsewhere: --file PATH",
        )
    return TelemetryFiles(paths)


def _newest_demo(folder: Path) -> list[Path]:
    """Find the telemetry of its newest run; nothing where there was none."""
    with suppress(OSError):
        runs = [run for run in folder.iterdir() if run.is_dir()]
        return [run / "telemetry" for run in sorted(runs)[-1:]]
    return []


def _lines_in(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [path for path in folder.iterdir() if path.suffix in {".jsonl", ".json"} and path.is_file()]
    return []


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
