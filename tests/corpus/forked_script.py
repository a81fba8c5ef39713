"""Starts a script many times, as its rule starts it, but imports its modules only once.

`python forked_script.py SCRIPT ARGUMENTS...` runs the script once to the end. It then forks a new process
of the script for every line of JSON on its standard input:

{}              run to the end
{"event": n}    SIGKILL just before the n-th time that it opens, renames, makes or removes a file
{"seconds": s}  SIGKILL after s seconds of processor time, which other load doesn't change
{"room": n}     no file may grow over n bytes, as on a full disk

Each answer is a line of JSON: `status` (exit status, or minus the signal's number), `seconds` of processor
time, and `shown`, which the script wrote to the terminal.
"""

import itertools
import json
import os
import resource
import runpy
import signal
import sys
import time

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}


def kill_before(number: int) -> None:
    """SIGKILL this process before change number `number` (from 1) of the file system."""
    count = itertools.count(1)

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def run(script: str) -> int:
    """Run the script as the main program; returns its exit status."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def child(order: dict, script: str, terminal: int) -> None:
    os.dup2(terminal, 2)
    if "room" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["room"], resource.RLIM_INFINITY))
    if "event" in order:
        kill_before(order["event"])
    os._exit(run(script))


def kill_after(process: int, seconds: float) -> None:
    """SIGKILL a child once it has used `seconds` of processor time, unless it ends before."""
    clock = ~process << 3 | 2  # what clock_getcpuclockid(3) gives on Linux
    while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.clock_gettime(clock) >= seconds:
            os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.001)


def main() -> None:
    sys.argv = sys.argv[1:]
    script = sys.argv[0]
    answers = os.fdopen(os.dup(1), "w")
    sys.path.insert(0, os.path.dirname(script))  # noqa: PTH120
    print(json.dumps({"status": run(script), "seconds": 0, "shown": ""}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        shown, terminal = os.pipe()
        process = os.fork()
        if not process:
            child(order, script, terminal)
        os.close(terminal)
        if "seconds" in order:
            kill_after(process, order["seconds"])
        _, status, used = os.wait4(process, 0)
        with open(shown) as messages:
            answer = {"shown": messages.read(), "seconds": used.ru_utime + used.ru_stime}
        answer["status"] = os.waitstatus_to_exitcode(status)
        print(json.dumps(answer), file=answers, flush=True)


main()
