# Figures.
#
# REQUIRED INPUTS
#   {R}/runs/{run}/metrics.csv    training loss
#   {R}/scores.csv, comparisons.csv, letters.csv, answers.csv
#   {R}/corpora/*.csv             documents and tokens after each stage, token-level measures
#   paper/published.csv           the paper's Table 1, as data
# OUTPUTS
#   {R}/figures/figure1, figure2  .pdf, .png, .svg
#   {R}/figures/figure3           forgetting: held-out bits per byte along training, if it is measured
#   {R}/figures/figure4           paired differences from the base model, and what could be detected
#   {R}/figures/figure5           letters answered on MMLU
#   {R}/figures/answers           changes of the likelihood of right and of wrong answers
#   {R}/figures/figure6           what each data stage leaves of each corpus
#   {R}/figures/token_quality     how the token-level measures are spread
#   {R}/figures/schedules         learning rates as planned (asked for by name only)


MEASURED_RUNS = [run for run in cfg.trained_runs if held_out_for(run)]
SHOWN_MERGES = {run: cfg.runs[run].merge for run in cfg.merged_runs} if cfg.general else {}  # in Figure 3
MMLU = [task for task, settings in cfg.evaluate.tasks.items() if settings.task == "mmlu"][:1]  # of Figure 5
TRAINED_BUDGETS = {run: cfg.runs[run].tokens for run in cfg.trained_runs}


rule figure1:
    """Figure 1: training loss."""
    input:
        metrics=expand(rules.train.output.metrics, run=cfg.trained_runs),
    output:
        figure=figure_files("figure1", "Figure 1: training loss"),
    log:
        f"{R}/logs/figure1.log",
    params:
        runs=TRAINED_BUDGETS,
    shell:
        STAGE


rule figure2:
    """Figure 2: change of the benchmark groups over tokens."""
    input:
        scores=rules.scores.output.table,
        published=PUBLISHED if cfg.shows_claims else [],
    output:
        figure=figure_files("figure2", "Figure 2: token efficiency"),
    log:
        f"{R}/logs/figure2.log",
    params:
        runs=cfg.budgets,
        groups=cfg.evaluate.groups,
        seed=cfg.evaluate.seed,
    shell:
        STAGE


rule figure3:
    """Figure 3: bits per byte of domain and general text along training."""
    input:
        held_out_losses=expand(rules.train.output.held_out_losses, run=MEASURED_RUNS),
        document_losses=expand(rules.train.output.document_losses, run=MEASURED_RUNS),
        # held_out_for begins with the domain and the general corpus.
        held_out=[
            tokens for run in MEASURED_RUNS for tokens in held_out_for(run)[: len(cfg.domain_and_general)]
        ],
        losses=expand(
            rules.bits_per_byte.output.losses,
            run=[BASE_RUN, *SHOWN_MERGES] if SHOWN_MERGES else [],
            corpus=cfg.domain_and_general,
        ),
    output:
        figure=figure_files("figure3", "Figure 3: forgetting"),
    log:
        f"{R}/logs/figure3.log",
    params:
        origins={run: cfg.trained_by(run)[0] for run in MEASURED_RUNS},
        corpora=cfg.domain_and_general,
        merges=SHOWN_MERGES,
        seed=cfg.evaluate.seed,
    shell:
        STAGE


rule figure4:
    """Figure 4: differences from the base model beside what could be detected."""
    input:
        comparisons=rules.comparisons.output.table,
    output:
        figure=figure_files("figure4", "Figure 4: differences from the base model"),
    log:
        f"{R}/logs/figure4.log",
    params:
        labels={task: settings.label for task, settings in cfg.evaluate.table_tasks.items()},
    shell:
        STAGE


rule figure5:
    """Figure 5: letters answered on MMLU."""
    input:
        letters=rules.letters.output.table,
    output:
        figure=figure_files("figure5", "Figure 5: letters answered"),
    log:
        f"{R}/logs/figure5.log",
    params:
        task="".join(MMLU),
    shell:
        STAGE


rule figure_answers:
    """Figure of answers.csv: right answers beside wrong ones."""
    input:
        answers=rules.answers.output.table,
    output:
        figure=figure_files("answers", "Right and wrong answers"),
    log:
        f"{R}/logs/figure_answers.log",
    params:
        labels=LABELS,
    shell:
        STAGE


rule figure6:
    """Figure 6: what each data stage leaves."""
    input:
        statistics=rules.corpus_statistics.output.table,
    output:
        figure=figure_files("figure6", "Figure 6: data waterfall"),
    log:
        f"{R}/logs/figure6.log",
    shell:
        STAGE


rule token_quality:
    """A figure of the token-level measures."""
    input:
        quality=rules.corpus_statistics.output.quality,
    output:
        figure=figure_files("token_quality", "4 Token-level quality", "4 Data"),
    log:
        f"{R}/logs/token_quality.log",
    params:
        thresholds=cfg.filters.token_quality.model_dump(),
    shell:
        STAGE


rule schedules:
    """A figure of the learning rates as planned."""
    input:
        schedules=expand(rules.plan_run.output.schedule, run=cfg.trained_runs),
    output:
        figure=figure_files("schedules", "Learning-rate schedules"),
    log:
        f"{R}/logs/schedules.log",
    params:
        runs=TRAINED_BUDGETS,
    shell:
        STAGE


rule figures:
    """All figures."""
    input:
        rules.figure1.output if cfg.trained_runs else [],
        rules.figure2.output,
        rules.figure3.output if MEASURED_RUNS else [],
        rules.figure4.output if len(RUNS) > 1 else [],
        rules.figure5.output if MMLU else [],
        rules.figure_answers.output if len(RUNS) > 1 else [],
        rules.exam_scores.output.figure if EXAMS else [],
        rules.robustness.output.figure if GRID else [],
        rules.figure6.output,
        rules.token_quality.output,
