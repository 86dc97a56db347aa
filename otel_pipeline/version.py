"""The version, read by the build and by the telemetry resource."""

VERSION = "0.1.0"
__version__ = VERSION
