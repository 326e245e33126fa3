"""Claims of the theory as symbolic objects with certificates."""

import os
import signal
import sys

if sys.argv[:1] == ["-m"]:  # a command is starting: OpenMP threads that spin while they wait slow busy machines tenfold
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during imports ends the command without a traceback
