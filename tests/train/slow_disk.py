"""Train on a disk that takes some seconds for each checkpoint: SECONDS SCRIPT ARGUMENTS."""

import runpy
import sys
import time
from pathlib import Path
from typing import Any

seconds, script = float(sys.argv[1]), sys.argv[2]
sys.path.insert(0, str(Path(script).parent))

from cpt.train import checkpoints  # noqa: E402

save_file = checkpoints.save_file


def slowly(*arguments: Any) -> None:
    """Write one of a checkpoint's files."""
    time.sleep(seconds / len(checkpoints.FILES))
    save_file(*arguments)


checkpoints.save_file = slowly
sys.argv = sys.argv[2:]
runpy.run_path(script, run_name="__main__")
