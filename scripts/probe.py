import json
from pathlib import Path

from cpt.command import run
from cpt.probe import Warned, findings


def probe(
    greeting: Path,
    gpus: int = 0,
    bf16: bool = False,
    c_compiler: bool = False,
    cpu_adam: bool = False,
    mem_mb: int = 0,
    warned_within: int = 0,
) -> None:
    """Try what a job needs on the machine where this runs; `preflight` starts it in a job of each kind.

    It prints each finding as a line of JSON: name, whether all is well (null: not tried), and text. The first
    one's text is the content of `greeting`.

    Args:
        greeting: a file in the results folder, which the job must see.
        gpus: GPUs that the job asks for; each computes a small product.
        bf16: whether the job computes in bfloat16.
        c_compiler: whether torch.compile is used.
        cpu_adam: whether DeepSpeed's CPU optimizer is compiled.
        mem_mb: memory that the job asks for, in MB; 0 if it asks for none.
        warned_within: seconds within which Slurm sends SIGTERM; 0 if it isn't asked to.
    """
    warned = Warned()
    print(json.dumps(["greeting", True, greeting.read_text()]), flush=True)
    for name, finding in findings(gpus, bf16, c_compiler, cpu_adam, mem_mb):
        print(json.dumps([name, *finding]), flush=True)
    if warned_within:
        print(json.dumps(["signal", *warned.finding(warned_within)]), flush=True)


if __name__ == "__main__":
    run(probe)
