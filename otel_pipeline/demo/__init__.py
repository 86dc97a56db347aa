"""The demo: three services, one broker, one trace, with and without faults. Needs the extra `demo`."""
