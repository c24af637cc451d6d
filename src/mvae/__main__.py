"""`python -m mvae` is `mvae`."""

import sys

from mvae.cli import main

sys.exit(main())
