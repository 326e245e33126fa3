"""Pages that set trained, exact and true side by side."""

import os
import sys

if sys.argv[:1] == ["-m"]:  # a command is starting: OpenMP threads that spin while they wait slow busy machines tenfold
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
