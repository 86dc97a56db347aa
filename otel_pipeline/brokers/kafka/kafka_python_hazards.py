"""Settings of kafka-python that can lose, repeat or reorder data, found without any traffic (docs/health.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def of_consumer(config: Mapping[str, Any]) -> Iterator[str]:
    """The hazards of a consumer's settings."""
    if config.get("group_id") and config.get("auto_offset_reset") == "latest":
        yield "new_group_skips_history"
    if config.get("group_id") and config.get("enable_auto_commit"):
        yield "commits_by_time"


def of_producer(config: Mapping[str, Any]) -> Iterator[str]:
    """The hazards of a producer's settings; an idempotent one has none."""
    if config.get("enable_idempotence"):
        return
    if config.get("acks") in {0, 1, "0", "1"}:
        yield "acknowledged_by_leader_only" if config.get("acks") in {1, "1"} else "not_acknowledged"
    if config.get("retries"):
        yield "retries_repeat"
        if (config.get("max_in_flight_requests_per_connection") or 1) > 1:
            yield "retries_reorder"
