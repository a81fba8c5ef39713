"""`python -m pretended_gpu SCRIPT ...` runs a script on a GPU that isn't there, whose tensors have no values.

So it counts the memory of computations that no CPU could do (docs/gpu-counted.md, "Memory").
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from pretended_gpu import environment

with tempfile.TemporaryDirectory() as folder:
    gpu = environment(Path(folder), values=False, size=10**15)
    sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], env=gpu).returncode)
