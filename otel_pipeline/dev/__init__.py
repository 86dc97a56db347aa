"""Tools for a person at work: what receives telemetry on this machine."""
