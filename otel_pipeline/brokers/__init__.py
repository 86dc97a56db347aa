"""Broker clients: which methods are patched, and how their messages are read."""
