# The domain's own exam: an lm-eval task made from held-out documents (docs/exam.md), if evaluate.exam is set.
#
# REQUIRED INPUTS
#   {R}/corpora/{corpus}/held_out.parquet   what it asks about
#   {R}/corpora/{corpus}/filtered, ...      training text, in which its questions are looked for
#   {R}/models/base                         for the checks
# OUTPUTS
#   {R}/exam/candidates.jsonl, .json   questions, each with a pool of answers; what they were made from
#   {R}/exam/overlap.npy               how much of each is in training text
#   {R}/exam/exam.yaml, exam.jsonl     the task, exam, and its items
#   {R}/exam/exam_open_book.yaml       the same items, each below a passage of its document
#   {R}/exam/exam.json                 facts of the exam, and the scores of null baselines and the base model


from cpt.config_exam import Exam

EXAM_SETTINGS = cfg.evaluate.exam or Exam()
EXAM_CORPUS = EXAM_SETTINGS.corpus or cfg.domain
if cfg.evaluate.exam and EXAM_CORPUS in CONVERSATIONS:
    raise WorkflowError(
        f"evaluate.exam.corpus: {EXAM_CORPUS} holds conversations, of which no questions are made; name a "
        "corpus of text"
    )
# Corpora of text that are trained on.
EXAM_TEXTS = {
    corpus: shards
    for corpus, shards in TEXTS.items()
    if any(corpus in cfg.mixtures[mixture] for mixture in USED_MIXTURES)
}


rule exam_candidates:
    """Questions with answers of the same kind, from held-out text alone; or written by a language model."""
    input:
        documents=f"{R}/corpora/{EXAM_CORPUS}/held_out.parquet",
    output:
        candidates=f"{R}/exam/candidates.jsonl",
        manifest=f"{R}/exam/candidates.json",
    log:
        f"{R}/logs/exam_candidates.log",
    resources:  # a writer needs the network, which only the submit host may have
        **({} if EXAM_SETTINGS.writer else {"mem_mb": growing(STAGE_MB), "runtime": minutes(30)}),
    params:
        corpus=EXAM_CORPUS,
        exam=EXAM_SETTINGS,
        answers=Untracked(f"{R}/exam/.written.jsonl"),
    shell:
        STAGE


rule exam_overlap:
    """Are the exam's questions in training text?"""
    input:
        lambda wildcards: sorted(set(shards_of(EXAM_TEXTS, TRAINED_KEPT_BY))),
        documents=lambda wildcards: shards_of(EXAM_TEXTS, rules.filter_documents.output.documents),
        candidates=rules.exam_candidates.output.candidates,
    output:
        overlap=f"{R}/exam/overlap.npy",
    log:
        f"{R}/logs/exam_overlap.log",
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(60, 3),
    params:
        corpora=EXAM_TEXTS,
        keep=lambda wildcards: Untracked(shards_of(EXAM_TEXTS, TRAINED_KEPT)),
        splits={corpus: cfg.held_out_settings(corpus) for corpus in EXAM_TEXTS},
    shell:
        STAGE


rule make_exam:
    """The items that pass all checks, as a task of lm-eval."""
    input:
        candidates=rules.exam_candidates.output.candidates,
        manifest=rules.exam_candidates.output.manifest,
        overlap=rules.exam_overlap.output.overlap,
        model=f"{R}/models/base",
    output:
        questions=f"{R}/exam/exam.jsonl",
        task=f"{R}/exam/exam.yaml",
        open_book=f"{R}/exam/exam_open_book.yaml",
        report=f"{R}/exam/exam.json",
    log:
        f"{R}/logs/make_exam.log",
    resources:
        **SCORING_PLACE,
        runtime=minutes(SCORE_MINUTES),
    params:
        exam=EXAM_SETTINGS,
        settings=cfg.evaluate.scoring,
        answers=Untracked(f"{R}/exam/.answers"),
        device=SCORING_DEVICE,
    shell:
        STAGE
