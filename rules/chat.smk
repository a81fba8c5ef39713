# Chat: answers of several runs side by side, and counts over them. Asked for by name: chat, chat_scores.
#
# REQUIRED INPUTS
#   {R}/models/...            base and trained models
#   the file chat.prompts
# OUTPUTS
#   {R}/chat/{run}.jsonl      a run's answers to chat.prompts, with length and whether they stopped
#   {R}/chat.html, chat.md    side by side
#   {R}/chat_instructions/{run}.jsonl   answers to prompts with an instruction, and whether they follow it
#   {R}/chat_scores.csv       per run: how many stop and follow, tested against the base model; bits per byte

CHAT_RUNS = cfg.chat.runs or RUNS
COUNTED_RUNS = list(dict.fromkeys([BASE_RUN, *CHAT_RUNS]))


rule chat_answers:
    input:
        model=lambda wildcards: model_of(wildcards.run),
        prompts=chat_prompts,
    output:
        answers=f"{R}/chat/{{run}}.jsonl",
    log:
        f"{R}/logs/chat_answers/{{run}}.log",
    resources:
        **SCORING_PLACE,
        runtime=minutes(120),
    params:
        kept=Untracked(f"{R}/chat/.kept"),
        max_new_tokens=cfg.chat.max_new_tokens,
        batch_size=Untracked(cfg.chat.batch_size),
        precision=cfg.evaluate.precision,
        device=SCORING_DEVICE,
    message:
        "answers: {wildcards.run}"
    shell:
        STAGE


rule chat:
    """Answers of the runs to chat.prompts, side by side: a page, and the terminal."""
    input:
        answers=expand(rules.chat_answers.output.answers, run=CHAT_RUNS),
    output:
        html=f"{R}/chat.html",
        markdown=f"{R}/chat.md",
    log:
        f"{R}/logs/chat.log",
    params:
        runs=CHAT_RUNS,
        title=f"Answers of {cfg.name}",
        max_new_tokens=cfg.chat.max_new_tokens,
    shell:
        STAGE


SCRIPT_OF["chat_instructions"] = SCRIPTS / "chat_answers.py"


use rule chat_answers as chat_instructions with:
    input:
        model=lambda wildcards: model_of(wildcards.run),
    output:
        answers=f"{R}/chat_instructions/{{run}}.jsonl",
    log:
        f"{R}/logs/chat_instructions/{{run}}.log",
    params:
        kept=Untracked(f"{R}/chat_instructions/.kept"),
        max_new_tokens=cfg.chat.max_new_tokens,
        batch_size=Untracked(cfg.chat.batch_size),
        precision=cfg.evaluate.precision,
        device=SCORING_DEVICE,
    message:
        "answers to instructions: {wildcards.run}"


rule chat_scores:
    """How many answers of each run stop, and follow an instruction that can be checked."""
    input:
        answers=expand(rules.chat_instructions.output.answers, run=COUNTED_RUNS),
        losses=expand(rules.bits_per_byte.output.losses, run=COUNTED_RUNS, corpus=cfg.measured_corpora),
    output:
        table=f"{R}/chat_scores.csv",
    log:
        f"{R}/logs/chat_scores.log",
    params:
        runs={run: cfg.budgets[run] for run in COUNTED_RUNS},
        corpora=cfg.measured_corpora,
        seed=cfg.evaluate.seed,
    shell:
        STAGE
