"""What the configuration says, as the plain values that the detectors and the verdict take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.settings import DestinationSettings, HealthSettings, Objective

if TYPE_CHECKING:
    from otel_pipeline.config.config import Config, ObjectiveOptions


def health_settings(config: Config, service_name: str) -> HealthSettings:
    """The settings of `detectors/` for a process of this configuration that calls itself `service_name`."""

    def destination(name: str) -> DestinationSettings:
        options = config.destination(name)
        return DestinationSettings(
            trust=options.trust,
            foreign=options.foreign,
            contract=options.contract,
            log=options.log,
            ordered=options.ordered,
            expect_every_s=options.expect_every_s,
            event_age=options.event_age,
            process_wait=options.process_wait,
            same_key=options.same_key,
            fields=options.fields,
        )

    return HealthSettings(
        environment=config.resolved.name,
        service_name=service_name,
        destination=destination,
        objectives=tuple(map(_objective, config.objectives)),
        mirrors=config.mirrors,
        interval_s=config.health.interval_s,
        stuck_after_s=config.health.stuck_after_s,
        lost_after_s=config.health.lost_after_s,
        on_reject=config.health.on_reject,
        learn_messages=config.contracts.learn_messages,
        event_time=config.event_time,
    )


def _objective(options: ObjectiveOptions) -> Objective:
    return Objective(
        name=options.name,
        threshold_s=options.threshold_s,
        objective=options.objective,
        age=options.age,
        destination=options.destination,
        group=options.group,
        model=options.model,
        window_s=options.window_s,
    )
