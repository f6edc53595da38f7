"""Studies: settings that vary, what was measured of each, and a report."""
