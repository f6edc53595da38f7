"""`python -m pidsampler.cli`, as in 0.1: the command line."""

import sys

from .main import main

sys.exit(main())
