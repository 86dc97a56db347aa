"""The configuration's own options: those that say how it is read."""

from __future__ import annotations

from dataclasses import dataclass

from otel_pipeline.config.environment import VARIABLE
from otel_pipeline.settings import option

ENVIRONMENT = "environment"


@dataclass(frozen=True)
class GeneralSettings:
    """How the configuration is read."""

    version: int = option("version", "version", 1, "Version of the file's format.", variable=None, overridable=False)
    environment: str | None = option(
        ENVIRONMENT,
        "text",
        None,
        "`deployment.environment.name`. Found out when not given; never guessed to be production.",
        variable=VARIABLE,
        argument="environment",
        overridable=False,
    )
    strict: bool = option(
        "strict",
        "boolean",
        False,
        "Raise on bad values, all at once, instead of saying so and using the default.",
        argument="strict",
        per_environment={"test": True},
        overridable=False,
    )
