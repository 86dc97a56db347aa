"""Judges what the detectors have counted: evidence, lights, and what a person or a state file is told."""
