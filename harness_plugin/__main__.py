"""`python -m harness_plugin`, `accelerate launch -m harness_plugin`, the folder as a program."""

import os
import sys

if not __package__:
    # run as a folder, Python puts the package's inside on the path, where `data` and `task` would
    # be top-level modules: put the folder that holds the package there instead
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from harness_plugin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
