"""scripts/train.py runs where only torch, transformers, numpy and what these need are installed."""

import subprocess
import sys

# As a process of its own: argv is train.py and its arguments.
ALONE = r"""
import re, runpy, sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

def name(text):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", text)[0]).lower()

needed, waiting = set(), ["torch", "transformers", "numpy"]
while waiting:
    package = name(waiting.pop())
    if package in needed:
        continue
    try:
        requirements = distribution(package).requires or []
    except PackageNotFoundError:  # for other systems
        continue
    needed.add(package)
    waiting += [one for one in requirements if "extra ==" not in one]
owners = packages_distributions().items()
others = {module for module, those in owners if not {name(one) for one in those} & needed}
assert {"pydantic", "pandas", "yaml_include", "deepspeed", "snakemake"} & others

class Missing:
    def find_spec(self, module, path=None, target=None):
        if module.partition(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)

sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
loaded = {module.partition(".")[0] for module in sys.modules}
assert not loaded & others, loaded & others
"""


def test_training_needs_only_torch_transformers_and_numpy(training):
    run = training()
    run.changed(tokens=8 * 64)
    done = subprocess.run([sys.executable, "-c", ALONE, *run.command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(run.metrics.step) == [1, 2]
