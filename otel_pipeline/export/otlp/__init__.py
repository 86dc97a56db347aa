"""OTLP of our own: protobuf's bytes without its library, and what sends them over HTTP."""
