"""The shape of values: learned or from a file, checked, compared."""
