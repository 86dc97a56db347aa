"""Where telemetry leaves the process; the only importer of opentelemetry.sdk."""
