"""One trace from laptop to production for AI on streams."""
