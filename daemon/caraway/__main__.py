"""`python -m caraway` is the command line."""

import sys

from caraway.cli.main import main

sys.exit(main())
