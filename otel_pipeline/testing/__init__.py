"""For tests: fixtures, the checker, the embedded broker."""
