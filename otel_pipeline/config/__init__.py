"""What can be configured: the table of options, the file, the environment, and what holds in the end."""
