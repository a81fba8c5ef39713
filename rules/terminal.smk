# What the terminal shows: one line per job, and the results at the end. A dry run, --verbose and --printshellcmds keep
# Snakemake's own output.
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from cpt.targets import name_the_nearest
from cpt.terminal import be_calm, closing

name_the_nearest(workflow, R)

CORES = workflow.resource_settings.cores
if workflow.is_main_process and CORES is not None and CORES < 1:  # Snakemake would wait for ever
    raise WorkflowError(f"--cores {CORES}: no job can start; give at least 1, or all")

OUTPUT = workflow.output_settings
CALM = (
    be_calm(logger)
    if workflow.is_main_process and not (OUTPUT.dryrun or OUTPUT.verbose or OUTPUT.printshellcmds)
    else None
)
for variable in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):  # or each job ends with a traceback
    if not (seconds := os.environ.get(variable, "1")).isdecimal():
        raise WorkflowError(f"{variable}: expected whole seconds, but it is {seconds!r}; correct or unset it")
# Libraries' progress bars would fill the logs; cpt.progress draws ours.
os.environ.setdefault("TQDM_DISABLE", "1")


onsuccess:
    if CALM and "drop_report" in CALM.rules and Path(R, "corpora", "warnings.txt").exists():
        print(Path(R, "corpora", "warnings.txt").read_text().strip())
    if CALM and "document_list" in CALM.rules:
        for path in sorted(Path(R, "corpora").glob("*/warnings.txt")):
            print(path.read_text(), end="")
    if CALM and CALM.rules & {"summary", "report"}:
        overlays = [os.path.relpath(file) for file in workflow.overwrite_configfiles]
        print(closing(Path(R), overlays, workflow.config_settings.config_args or []))
