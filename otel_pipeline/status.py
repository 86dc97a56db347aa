"""What `pipe.status()` says: of the SDK itself, not of the data."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AdapterStatus:
    """One library: instrumented, waiting for its import, or skipped and why."""

    name: str
    state: str
    """One of instrumented, waiting, skipped, failed, and unsupported: known, and nothing of ours instruments it."""
    reason: str = ""
    version: str | None = None


@dataclass(frozen=True)
class ExportStatus:
    """What became of one signal on its way to one destination.

    Where nothing moves at that moment, started = exported + queued + spooled + all that was dropped.
    """

    signal: str
    destination: str
    started: int = 0
    """Spans that have ended, log records that were written, points that were collected."""
    exported: int = 0
    queued: int = 0
    """What may still arrive, and is lost where the process ends first."""
    spooled: int = 0
    """What waits in the spool: this process sends it, or another one after it."""
    set_aside: int = 0
    """Of what waits in the spool, what is not taken while others are; it is tried again now and then."""
    dropped: dict[str, int] = field(default_factory=dict)
    """What was lost, by reason."""
    as_lines: int = 0
    """Of the exported, what was written as lines since nobody took it."""
    removed: int = 0
    """Of these, what has been removed since to make room."""
    recovered: int = 0
    """What processes that had ended have left in the spool and was exported here; not of the exported."""
    recovered_lost: int = 0
    """Of what they have left, what was lost here."""
    failing_since_s: float | None = None
    """When exports began not to arrive, s since the epoch; None while they do."""
    last_success_s: float | None = None
    """When an export last arrived, s since the epoch."""
    last_error_s: float | None = None
    last_error: str = ""
    """Why the last that did not arrive did not, and what to do."""
    trying: str = ""
    """What the export in hand has met until now, if it is not going well."""

    @property
    def lost(self) -> int:
        """All that nobody will see."""
        return sum(self.dropped.values()) + self.removed

    def __str__(self) -> str:
        said = [f"{self.exported:,} exported"]
        if self.as_lines:
            said.append(f"{self.as_lines:,} of them as lines")
        said.append(f"{self.queued:,} queued")
        if self.spooled:
            aside = f" ({self.set_aside:,} set aside)" if self.set_aside else ""
            said.append(f"{self.spooled:,} spooled{aside}")
        if self.removed:
            said.append(f"{self.removed:,} removed to make room")
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.dropped.items()))
        said.append(f"{sum(self.dropped.values()):,} lost" + (f" ({reasons})" if reasons else ""))
        if self.recovered or self.recovered_lost:
            lost = f", {self.recovered_lost:,} lost" if self.recovered_lost else ""
            said.append(f"{self.recovered:,} of earlier processes exported{lost}")
        if self.last_success_s is not None:
            said.append(f"last arrived {_clock(self.last_success_s)}")
        if self.failing_since_s is not None:
            said.append(f"none since {_clock(self.failing_since_s)}: {self.last_error}")
        elif self.trying:
            said.append(f"still trying: {self.trying}")
        return ", ".join(said)


@dataclass(frozen=True)
class Status:
    """A snapshot; printing it gives the page that a person wants to read."""

    active: bool
    service_name: str
    environment: str | None
    environment_reason: str
    export: str
    providers: tuple[str, ...]
    """Traces, metrics and logs, each with whose provider is in force."""
    adapters: tuple[AdapterStatus, ...]
    problems: tuple[str, ...] = ()
    errors: dict[str, int] = field(default_factory=dict)
    """Failures of ours by place; the application has not noticed any."""
    foreign_not_followed: int = 0
    """Sampled messages from other environments that went on unrecorded, because of `foreign_sampling`."""
    reason: str = ""
    """Why nothing is instrumented, when `active` is false."""
    exports: tuple[ExportStatus, ...] = ()
    """By signal and destination, as far as exporters of ours go."""

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for is in place."""
        failing = any(export.failing_since_s is not None or export.trying for export in self.exports)
        return self.active and not self.errors and not self.problems and not failing

    def __str__(self) -> str:
        head = f"otel_pipeline: {self.service_name} in {self.environment or 'no environment'}"
        lines = [head + (f" ({self.environment_reason})" if self.environment_reason else "")]
        if not self.active:
            lines.append(f"  off          {self.reason}")
        lines.append(f"  export       {self.export}")
        lines += [f"  {export.signal:<12} {export}" for export in self.exports]
        lines += [f"  {'providers' if at == 0 else '':<12} {text}" for at, text in enumerate(self.providers)]
        lines += [_adapter_line(adapter) for adapter in self.adapters]
        if self.foreign_not_followed:
            lines.append(f"  foreign      {self.foreign_not_followed} sampled messages not recorded (foreign_sampling)")
        lines += [f"  problem      {problem}" for problem in self.problems]
        lines += [f"  failures     {count} in {place}" for place, count in sorted(self.errors.items())]
        return "\n".join(lines)

    __repr__ = __str__


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))


def _adapter_line(adapter: AdapterStatus) -> str:
    version = f" {adapter.version}" if adapter.version else ""
    reason = f": {adapter.reason}" if adapter.reason else ""
    return f"  {adapter.state:<12} {adapter.name}{version}{reason}"
