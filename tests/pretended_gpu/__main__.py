"""`python -m pretended_gpu SCRIPT ...` runs a script on a GPU that isn't there, whose tensors have no values.

It counts the memory of what no CPU could compute (docs/gpu-counted.md, "Memory").
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from pretended_gpu import environment

with tempfile.TemporaryDirectory() as folder:
    gpu = environment(Path(folder), values=False, size=10**15)
    sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], env=gpu).returncode)
