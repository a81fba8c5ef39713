# Train: continued pre-training (paper sections 3.3 and 3.4).
#
# REQUIRED INPUTS
#   {R}/packed/{mixture}   sequences
#   {R}/models/...         the model a run starts from
#   {R}/models/base.scores.json  where scores of the base model are published: it reaches them
# OUTPUTS
#   {R}/runs/{run}/plan.json      budget in sequences and steps; fails at once if the data is too small
#   {R}/runs/{run}/schedule.csv   its learning rates
#   {R}/runs/{run}/metrics.csv    one row per step
#   {R}/runs/{run}/held_out.csv   loss on held-out text along the run (only a header unless configured)
#   {R}/runs/{run}/run.json       summary
#   {R}/models/{run}              the trained model, or one between the base model and a trained one
#   {R}/reference_losses/{mixture}/{reference}/{scope}   a reference's loss on every target of a mixture
# Checkpoints live in {R}/checkpoints/{run}, outside all outputs: Snakemake deletes outputs before an
# attempt, and a run that was killed goes on from its newest checkpoint.


localrules:
    plan_run,


rule plan_run:
    input:
        packed=lambda wildcards: packed_for(wildcards.run),
        model=lambda wildcards: start_model(wildcards.run),
        base=rules.base_model.output.report,
        continued=lambda wildcards: (
            f"{R}/runs/{cfg.runs[wildcards.run].start_from}/plan.json"
            if cfg.runs[wildcards.run].continues
            else []
        ),
    output:
        plan=f"{R}/runs/{{run}}/plan.json",
        schedule=f"{R}/runs/{{run}}/schedule.csv",
    log:
        f"{R}/logs/plan_run/{{run}}.log",
    benchmark:
        f"{R}/timings/plan_run/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(cfg.trained_runs),
    priority: 100  # all budgets are checked before the first run trains
    retries: 0  # what is wrong with a plan stays wrong
    threads: 1
    params:
        command=script("plan_run"),
        tokens=lambda wildcards: cfg.runs[wildcards.run].tokens,
        processes=lambda wildcards: (
            0 if cfg.train_settings(wildcards.run).global_batch else cfg.runs[wildcards.run].processes
        ),
        train=lambda wildcards: as_json(cfg.train_settings(wildcards.run)),
        switch=lambda wildcards, input: (
            f"--switch-at {cfg.runs[wildcards.run].switch.at} --switch-ledger {shlex.quote(input.packed[1])}/ledger.json"
            if cfg.runs[wildcards.run].switch
            else ""
        ),
        continues=lambda wildcards, input: (
            f"--continues {shlex.quote(input.continued)}" if cfg.runs[wildcards.run].continues else ""
        ),
        code=code("plan_run"),
    message:
        "plan run: {wildcards.run}"
    shell:
        "{params.command} --run {wildcards.run} --tokens {params.tokens} --processes {params.processes}"
        " --train {params.train:q} --ledger {input.packed[0]:q}/ledger.json {params.switch} {params.continues}"
        " --model-config {input.model:q}/config.json --base-report {input.base:q} --schedule {output.schedule:q} --output {output.plan:q}"
        " --code {params.code} --log-file {log:q}"


# Only asked for with train.selection.
rule reference_losses:
    input:
        packed=f"{R}/packed/{{mixture}}",
        model=lambda wildcards: reference_model(wildcards.reference),
    output:
        directory(f"{R}/reference_losses/{{mixture}}/{{reference}}/{{scope}}"),
    log:
        f"{R}/logs/reference_losses/{{mixture}}/{{reference}}/{{scope}}.log",
    benchmark:
        f"{R}/timings/reference_losses/{{mixture}}/{{reference}}/{{scope}}.tsv"
    wildcard_constraints:
        reference=one_of(
            {reference for run in cfg.trained_runs for _, reference, _ in cfg.references_of(run)}
        ),
        scope="sequences|documents",
    threads: lambda wildcards: largest_user(wildcards).cpus or 8 * largest_user(wildcards).gpus
    resources:
        nodes=of_place("nodes", largest_user),
        cpus_per_task=of_place("cpus_per_task", largest_user),
        gpu=of_place("gpu", largest_user),
        gpu_model=of_place("gpu_model", largest_user),
        gres=of_place("gres", largest_user),
        mpi=of_place("mpi", largest_user),
        tasks=of_place("tasks", largest_user),
        tasks_per_gpu=of_place("tasks_per_gpu", largest_user),
        mem_mb=training_mb_of(largest_user),
        runtime=TRAIN_MINUTES,  # it goes on where it was stopped
        slurm_partition=lambda wildcards: partition(largest_user(wildcards).gpus),
    params:
        launcher=script("launch"),
        processes=lambda wildcards: largest_user(wildcards).processes,
        script=Place(SCRIPTS / "reference_losses.py"),
        device=lambda wildcards: "cuda" if largest_user(wildcards).gpus else "cpu",
        precision=cfg.train.precision,
        code=code("reference_losses"),
    message:
        "reference losses: {wildcards.reference} on {wildcards.mixture}"
    shell:
        ": >{log:q}; exec 3>&2; CPT_TERMINAL=/proc/$$/fd/3 exec {params.launcher}"
        " --processes {params.processes} --nodes {resources.nodes} --cpus {resources.cpus_per_task} --device {params.device} {params.script:q}"
        " --model {input.model:q} --sequences {input.packed:q} --scope {wildcards.scope}"
        " --precision {params.precision} --output {output:q} --device {params.device}"
        " --code {params.code} --log-file {log:q} >>{log:q} 2>&1"


rule train:
    input:
        # Only waited for: another way to score the base model is no reason to train again.
        checked=ancient(f"{R}/models/base.scores.json") if EXPECTED_TASKS else [],
        plan=rules.plan_run.output.plan,
        packed=lambda wildcards: packed_for(wildcards.run),
        model=lambda wildcards: start_model(wildcards.run),
        held_out=lambda wildcards: list(held_out_for(wildcards.run).values()),
        reference_losses=lambda wildcards: reference_losses_for(wildcards.run),
    output:
        model=directory(f"{R}/models/{{run}}"),
        metrics=f"{R}/runs/{{run}}/metrics.csv",
        held_out=f"{R}/runs/{{run}}/held_out.csv",
        summary=f"{R}/runs/{{run}}/run.json",
    log:
        f"{R}/logs/train/{{run}}.log",
    benchmark:
        f"{R}/timings/train/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(cfg.trained_runs),
    threads: lambda wildcards: cfg.runs[wildcards.run].cpus or 8 * cfg.runs[wildcards.run].gpus
    resources:
        nodes=of_place("nodes"),
        cpus_per_task=of_place("cpus_per_task"),
        gpu=of_place("gpu"),
        gpu_model=of_place("gpu_model"),
        gres=of_place("gres"),
        mpi=of_place("mpi"),
        tasks=of_place("tasks"),
        tasks_per_gpu=of_place("tasks_per_gpu"),
        mem_mb=training_mb_of(),
        disk_mb=training_disk_mb,
        # The next attempt goes on from the checkpoint that is written when the limit is near.
        runtime=TRAIN_MINUTES,
        slurm_partition=lambda wildcards: partition(run_of(wildcards).gpus),
        slurm_extra=slurm_extra(f"--signal=TERM@{site_number('WARNING_SECONDS', 300)}"),
    params:
        launcher=script("launch"),
        processes=lambda wildcards: cfg.runs[wildcards.run].processes,
        script=Place(SCRIPTS / "train.py"),
        device=lambda wildcards: "cuda" if cfg.runs[wildcards.run].gpus else "cpu",
        work=f"{R}/checkpoints/{{run}}",
        held_out=lambda wildcards: [
            f"{corpus}={path}" for corpus, path in held_out_for(wildcards.run).items()
        ],
        keep_optimizer=lambda wildcards: "--keep-optimizer" if wildcards.run in cfg.continued_runs else "",
        code=code("train"),
    message:
        "train: {wildcards.run}"
    shell:
        ": >{log:q}; exec 3>&2; CPT_TERMINAL=/proc/$$/fd/3 exec {params.launcher}"
        " --processes {params.processes} --nodes {resources.nodes} --cpus {resources.cpus_per_task} --device {params.device} {params.script:q}"
        " --plan {input.plan:q} --model {input.model:q} --sequences {input.packed:q} --work {params.work:q}"
        " --held-out {params.held_out:q} --reference-losses {input.reference_losses:q} --output {output.model:q} {params.keep_optimizer}"
        " --metrics {output.metrics:q} --held-out-losses {output.held_out:q} --summary {output.summary:q}"
        " --device {params.device} --code {params.code} --log-file {log:q} >>{log:q} 2>&1"


rule interpolate:
    input:
        base=f"{R}/models/base",
        run=lambda wildcards: model_of(cfg.runs[wildcards.run].interpolate.run),
    output:
        model=directory(f"{R}/models/{{run}}"),
        report=f"{R}/models/{{run}}.json",
    log:
        f"{R}/logs/interpolate/{{run}}.log",
    benchmark:
        f"{R}/timings/interpolate/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(cfg.interpolated_runs),
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=minutes(30),
    params:
        command=script("interpolate"),
        ratio=lambda wildcards: cfg.runs[wildcards.run].interpolate.ratio,
        code=code("interpolate"),
    message:
        "interpolate: {wildcards.run}"
    shell:
        "{params.command} --base {input.base:q} --run {input.run:q} --ratio {params.ratio}"
        " --output {output.model:q} --report {output.report:q} --code {params.code} --log-file {log:q}"
