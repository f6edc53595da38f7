"""Where things lie in the repository."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PARITY = REPOSITORY / "tests" / "parity"  # numbers of other projects, and the scripts that made them
