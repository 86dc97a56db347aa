"""What `pipe.status()` says: of the SDK itself, not of the data."""

from __future__ import annotations

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

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for is in place."""
        return self.active and not self.errors and not self.problems

    def __str__(self) -> str:
        head = f"otel_pipeline: {self.service_name} in {self.environment or 'no environment'}"
        lines = [head + (f" ({self.environment_reason})" if self.environment_reason else "")]
        if not self.active:
            lines.append(f"  off          {self.reason}")
        lines.append(f"  export       {self.export}")
        lines += [f"  {'providers' if at == 0 else '':<12} {text}" for at, text in enumerate(self.providers)]
        lines += [_adapter_line(adapter) for adapter in self.adapters]
        if self.foreign_not_followed:
            lines.append(f"  foreign      {self.foreign_not_followed} sampled messages not recorded (foreign_sampling)")
        lines += [f"  problem      {problem}" for problem in self.problems]
        lines += [f"  failures     {count} in {place}" for place, count in sorted(self.errors.items())]
        return "\n".join(lines)

    __repr__ = __str__


def _adapter_line(adapter: AdapterStatus) -> str:
    version = f" {adapter.version}" if adapter.version else ""
    reason = f": {adapter.reason}" if adapter.reason else ""
    return f"  {adapter.state:<12} {adapter.name}{version}{reason}"
