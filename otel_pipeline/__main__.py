"""Runs the command `otel-pipeline` as `python -m otel_pipeline`, wherever that is not on the path."""

import sys

from otel_pipeline.cli.main import main

sys.exit(main())
