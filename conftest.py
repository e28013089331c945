"""What holds for all tests: one thread for each of several processes, so that they do not fight for the cores."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
