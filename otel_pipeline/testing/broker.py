"""The embedded broker, for tests: see `otel_pipeline.brokers.embedded`."""

from otel_pipeline.brokers.embedded import API_VERSION, EmbeddedBrokerError, embedded_broker

__all__ = ["API_VERSION", "EmbeddedBrokerError", "embedded_broker"]
