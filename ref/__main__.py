"""`python -m ref` is `gemma3-ref`."""

import sys

from ref.cli import main

sys.exit(main())
