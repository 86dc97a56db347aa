"""What every span, metric and log of this process says of it."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource

from otel_pipeline import semconv
from otel_pipeline.config.location import program_file
from otel_pipeline.export.settings import ExportSettings
from otel_pipeline.version import VERSION

if TYPE_CHECKING:
    from otel_pipeline.config.config import Config


def service_name(config: Config) -> str:
    """Return the configured name, else the program's file name."""
    configured = config.of(ExportSettings).service_name
    if configured:
        return configured
    program = program_file()
    return program.stem if program is not None and program.stem else "unknown_service"


def make(config: Config) -> Resource:
    """Make the resource; ours take precedence over `OTEL_RESOURCE_ATTRIBUTES` and the SDK's own attributes."""
    attributes: dict[str, str | int] = {
        semconv.SERVICE_NAME: service_name(config),
        semconv.SERVICE_INSTANCE_ID: str(uuid.uuid4()),
        semconv.TELEMETRY_DISTRO_NAME: "otel-pipeline",
        semconv.TELEMETRY_DISTRO_VERSION: VERSION,
        semconv.PROCESS_PID: os.getpid(),
        semconv.PROCESS_EXECUTABLE_NAME: os.path.basename(sys.executable or "python"),  # noqa: PTH119
    }
    version = config.of(ExportSettings).service_version
    if version:
        attributes[semconv.SERVICE_VERSION] = version
    if config.resolved.name:
        attributes[semconv.DEPLOYMENT_ENVIRONMENT_NAME] = config.resolved.name
    with suppress(OSError):
        attributes[semconv.HOST_NAME] = socket.gethostname()
    return Resource.create().merge(Resource(attributes))
