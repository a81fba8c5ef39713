"""Stands in for srun or scontrol, its first argument; each node is this machine.

As with --kill-on-bad-exit, the first failed task ends the step; KillWait is one second.
"""

import os
import signal
import subprocess
import sys
import time


def srun(options: list[str], program: list[str]) -> int:
    nodes = int(next(option for option in options if option.startswith("--nodes=")).partition("=")[2])
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": str(nodes), "SLURM_STEP_NODELIST": str(nodes)}
    tasks = [
        subprocess.Popen(program, env=os.environ | step | {"SLURM_NODEID": str(node)})
        for node in range(nodes)
    ]
    signal.signal(signal.SIGUSR1, lambda number, _: [task.send_signal(number) for task in tasks])
    while any(task.poll() is None for task in tasks):
        if any(task.returncode for task in tasks):
            for end in (subprocess.Popen.terminate, subprocess.Popen.kill):
                for task in tasks:
                    end(task)
                time.sleep(1)
        time.sleep(0.05)
    return max(abs(task.returncode) for task in tasks)


name, *words = sys.argv[1:]
if name == "scontrol":
    print("127.0.0.1\n" * int(words[2]))
else:
    start = next(place for place, word in enumerate(words) if not word.startswith("--"))
    sys.exit(srun(words[:start], words[start:]))
