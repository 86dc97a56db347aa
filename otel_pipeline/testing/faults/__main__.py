"""The command `python -m otel_pipeline.testing.faults`."""

import sys

from otel_pipeline.testing.faults.command import main

sys.exit(main())
