# Train: continued pre-training (paper sections 3.3 and 3.4).
#
# REQUIRED INPUTS
#   {R}/packed/{mixture}   sequences
#   {R}/models/...         the model a run starts from
#   {R}/models/base.scores.json  the base model reaches its published scores, if there are any
# OUTPUTS
#   {R}/runs/{run}/plan.json      budget in sequences and steps; fails at once if the data is too small
#   {R}/runs/{run}/schedule.csv   its learning rates
#   {R}/runs/{run}/metrics.csv    one row per step
#   {R}/runs/{run}/held_out.csv   loss on held-out text along the run (only a header unless configured)
#   {R}/runs/{run}/held_out_documents.csv   the same for each document
#   {R}/runs/{run}/run.json       summary
#   {R}/models/{run}              the trained model, or a sum of models
#   {R}/merges/{run}.json         a sum's imported models fit the base model: training waits for it
#   {R}/merges/{run}.greedy.json  the models in a greedy mean, chosen by held-out loss
#   {R}/reference_losses/{mixture}/{reference}/{scope}   a reference's loss on every target of a mixture
# Checkpoints live in {R}/checkpoints/{run}, outside all outputs: Snakemake deletes outputs before an
# attempt, and a run that was killed resumes from its newest checkpoint.


# The imported models in each sum; models that are made here always fit the base model.
IMPORTED_IN = {
    run: [name for name in cfg.runs[run].merge if name in cfg.reference_models] for run in cfg.merged_runs
}
CHECKED_MERGES = [run for run in cfg.merged_runs if IMPORTED_IN[run]]
GREEDY_RUNS = [run for run in cfg.merged_runs if cfg.runs[run].greedy]


rule plan_run:
    input:
        lambda wildcards: [f"{folder}.json" for folder in packed_for(wildcards.run)],
        packed=lambda wildcards: ancient(packed_for(wildcards.run)),
        base=rules.base_model.output.report,
        continued=lambda wildcards: (
            f"{R}/runs/{split_point(run_of(wildcards).start_from)[0]}/plan.json"
            if run_of(wildcards).continues
            else []
        ),
    output:
        plan=f"{R}/runs/{{run}}/plan.json",
        schedule=f"{R}/runs/{{run}}/schedule.csv",
    log:
        f"{R}/logs/plan_run/{{run}}.log",
    wildcard_constraints:
        run=one_of(cfg.trained_runs),
    priority: 100  # all budgets are checked before the first run trains
    retries: 0  # another attempt would fail the same way
    params:
        tokens=lambda wildcards: run_of(wildcards).tokens,
        processes=lambda wildcards: (
            0 if cfg.train_settings(wildcards.run).global_batch else run_of(wildcards).processes
        ),
        train=lambda wildcards: cfg.train_settings(wildcards.run),
        switch_at=lambda wildcards: run_of(wildcards).switch and run_of(wildcards).switch.at,
        point=lambda wildcards: split_point(run_of(wildcards).start_from or "")[1],
        keep_every=lambda wildcards: run_of(wildcards).keep_every,
    shell:
        STAGE


# Runs only with train.selection.
rule reference_losses:
    input:
        f"{R}/packed/{{mixture}}.json",
        packed=ancient(f"{R}/packed/{{mixture}}"),
        model=lambda wildcards: reference_model(wildcards.reference),
    output:
        losses=directory(f"{R}/reference_losses/{{mixture}}/{{reference}}/{{scope}}"),
    log:
        f"{R}/logs/reference_losses/{{mixture}}/{{reference}}/{{scope}}.log",
    wildcard_constraints:
        reference=one_of(
            {reference for run in cfg.trained_runs for _, reference, _ in cfg.references_of(run)}
        ),
        scope="sequences|documents",
    threads: lambda wildcards: largest_user(wildcards).cpus or 8 * largest_user(wildcards).gpus
    resources:
        **placed(largest_user),
    params:
        processes=lambda wildcards: largest_user(wildcards).processes,
        nodes=lambda wildcards, resources: resources.nodes,
        cpus=lambda wildcards, resources: resources.cpus_per_task,
        precision=cfg.train.precision,
        device=lambda wildcards: device(largest_user(wildcards)),
    message:
        "reference losses: {wildcards.reference} on {wildcards.mixture}"
    shell:
        LAUNCHED_STAGE


rule train:
    input:
        # Only waited for: a change in how the base model is scored trains nothing again.
        ancient(f"{R}/models/base.scores.json") if EXPECTED_TASKS else [],
        ancient(expand(f"{R}/merges/{{run}}.json", run=CHECKED_MERGES)),
        lambda wildcards: ancient(registration(wildcards.run)),
        # The plan has the digests of the sequences. A change of held-out text alone trains nothing again.
        plan=rules.plan_run.output.plan,
        packed=lambda wildcards: ancient(packed_for(wildcards.run)),
        start=lambda wildcards: start_model(wildcards.run),
        held_out=lambda wildcards: ancient(held_out_for(wildcards.run)),
        reference_losses=lambda wildcards: reference_losses_for(wildcards.run),
    output:
        model=directory(f"{R}/models/{{run}}"),
        metrics=f"{R}/runs/{{run}}/metrics.csv",
        held_out_losses=f"{R}/runs/{{run}}/held_out.csv",
        document_losses=f"{R}/runs/{{run}}/held_out_documents.csv",
        summary=f"{R}/runs/{{run}}/run.json",
    log:
        f"{R}/logs/train/{{run}}.log",
    wildcard_constraints:
        run=one_of(cfg.trained_runs),
    threads: lambda wildcards: run_of(wildcards).cpus or 8 * run_of(wildcards).gpus
    resources:
        **placed(options=[f"--signal=TERM@{site_number('WARNING_SECONDS', 300)}"]),
        disk_mb=training_disk_mb,
    params:
        processes=lambda wildcards: run_of(wildcards).processes,
        nodes=lambda wildcards, resources: resources.nodes,
        cpus=lambda wildcards, resources: resources.cpus_per_task,
        work=lambda wildcards: Untracked(f"{R}/checkpoints/{wildcards.run}"),
        corpora=lambda wildcards: cfg.measured_corpora if held_out_for(wildcards.run) else [],
        keep_optimizer=lambda wildcards: wildcards.run in cfg.continued_runs,
        point=lambda wildcards: split_point(run_of(wildcards).start_from or "")[1],
        device=lambda wildcards: device(run_of(wildcards)),
    shell:
        LAUNCHED_STAGE


rule check_merge:
    """Do a sum's imported models fit the base model? Training waits for it."""
    input:
        models=lambda wildcards: [f"{R}/models/{name}" for name in ("base", *IMPORTED_IN[wildcards.run])],
    output:
        report=f"{R}/merges/{{run}}.json",
    log:
        f"{R}/logs/check_merge/{{run}}.log",
    wildcard_constraints:
        run=one_of(CHECKED_MERGES),
    retries: 0
    params:
        names=lambda wildcards: ["base", *IMPORTED_IN[wildcards.run]],
    shell:
        STAGE


# Runs only with runs.X.greedy.
rule choose_summands:
    """The models in a greedy mean: those that lower the held-out loss of the domain."""
    input:
        models=lambda wildcards: [reference_model(name) for name in cfg.summands(wildcards.run)],
        held_out=f"{R}/corpora/{cfg.domain}/held_out.{cfg.evaluate.held_out_tokens}.npz",
    output:
        report=f"{R}/merges/{{run}}.greedy.json",
    log:
        f"{R}/logs/choose_summands/{{run}}.log",
    wildcard_constraints:
        run=one_of(GREEDY_RUNS),
    resources:
        **SCORING_PLACE,
        runtime=minutes(120),
    params:
        names=lambda wildcards: list(cfg.summands(wildcards.run)),
        corpus=cfg.domain,
        sequence_length=cfg.packing.sequence_length,
        batch_size=cfg.evaluate.batch_size,
        precision=cfg.evaluate.precision,
        device=Untracked("cuda" if ON_GPU else "cpu"),
    shell:
        STAGE


rule merge:
    input:
        chosen=lambda wildcards: (
            f"{R}/merges/{wildcards.run}.greedy.json" if wildcards.run in GREEDY_RUNS else []
        ),
        models=lambda wildcards: [reference_model(name) for name in cfg.summands(wildcards.run)],
    output:
        model=directory(f"{R}/models/{{run}}"),
        report=f"{R}/models/{{run}}.json",
    log:
        f"{R}/logs/merge/{{run}}.log",
    wildcard_constraints:
        run=one_of(cfg.merged_runs),
    resources:
        mem_mb=growing(2000),
        runtime=minutes(30),
    params:
        coefficients=lambda wildcards: cfg.summands(wildcards.run),
    shell:
        STAGE
