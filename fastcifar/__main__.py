"""`python -m fastcifar` is the command `fastcifar`."""

import sys

from fastcifar.cli import main

sys.exit(main())
