# Domain-adaptive continued pre-training of small language models: from raw text to the paper.
# The experiment is config.yaml (the paper's), or an overlay: --configfile experiments/demo.yaml
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


configfile: str(Path(workflow.basedir) / "config.yaml")


report: "paper/captions/report.rst"


# Only used with --software-deployment-method apptainer; the usual way is the .venv of `make environment`.
container: "envs/cpt.sif"


include: "rules/common.smk"
include: "rules/tasks.smk"
include: "rules/terminal.smk"
include: "rules/slurm.smk"
include: "rules/corpus.smk"
include: "rules/pack.smk"
include: "rules/model.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/exam.smk"
include: "rules/chat.smk"
include: "rules/tables.smk"
include: "rules/robustness.smk"
include: "rules/figures.smk"
include: "rules/paper.smk"
include: "rules/pages.smk"
include: "rules/freezing.smk"
include: "rules/compare.smk"
include: "rules/bench.smk"
include: "rules/plan.smk"
include: "rules/advise.smk"
include: "rules/provenance.smk"
include: "rules/preflight.smk"


onstart:
    refuse_to_double_slurm_jobs()
    warn_of_replaced_models()
    # Stages write under a temporary name and rename, so their outputs are always complete. Snakemake would remove the
    # outputs of a failed job; in a cancelled Slurm job the removal would stop halfway, and half a folder would pass for
    # a whole one.
    workflow.execution_settings.keep_incomplete = True


rule all:
    """Everything: tables, figures, the paper, models with their cards, pages of the report."""
    default_target: True
    input:
        EVERYTHING,


include: "rules/report.smk"
include: "rules/stages.smk"
