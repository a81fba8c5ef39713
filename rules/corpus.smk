# Corpus: from raw documents to packed sequences (paper sections 3.1 and 3.2).
#
# REQUIRED INPUTS
#   the sources named in `corpora` (hub files, own files, or documentation of installed packages)
#   {R}/models/base        for its tokenizer
#   {R}/benchmarks         evaluation items, for decontamination
# OUTPUTS
#   {R}/packed/{mixture}/              sequences.bin, boundaries, ledger.json
#   {R}/corpora/{corpus}/held_out.parquet, held_out.{tokens}.npz
#   {R}/corpora/duplicates.csv         and, if configured, near_duplicates.csv
#   {R}/corpora/statistics.csv         documents, bytes and tokens after each stage
#   {R}/corpora/token_quality.csv      documents per bin of the token-level measures
#   {R}/corpora/drops.md               what each rule dropped, with examples to read


if workflow.is_main_process:
    for corpus in cfg.used_corpora:
        local_files(corpus)  # patterns that match nothing stop here


rule download:
    input:
        own_files_of,  # so that a changed file is read again
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


rule filter_documents:
    input:
        raw=rules.download.output.documents,
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
        text_column=lambda wildcards: getattr(cfg.corpora[wildcards.corpus], "text_column", "text"),
        where=lambda wildcards: where_of(wildcards.corpus),
        filters=cfg.filters.of_documents,
        normalize=cfg.deduplicate.normalize,
    shell:
        STAGE


rule deduplicate:
    """Exact duplicates over all corpora."""
    input:
        documents=of_all_shards(rules.filter_documents.output.documents),
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
        near=cfg.deduplicate.near,
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
    shell:
        STAGE


rule decontaminate:
    input:
        documents=rules.filter_documents.output.documents,
        # A folder, or each of these jobs would go through a list of all shards to find the job that makes its file.
        unique=f"{R}/corpora/{{corpus}}/{'near_' if cfg.deduplicate.near else ''}deduplicated",
        benchmarks=f"{R}/benchmarks",
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


rule tokenize_documents:
    input:
        documents=rules.filter_documents.output.documents,
        keep=rules.decontaminate.output.keep,
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
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        disk_mb=corpus_disk_mb(sizes.token_bytes(None)),
        runtime=minutes(60, 120, rules=2),
    params:
        thresholds=cfg.filters.token_quality,
        split=cfg.held_out,
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
    message:
        "held-out tokens: {wildcards.tokens} of {wildcards.corpus}"
    shell:
        STAGE


rule pack:
    input:
        tokens=lambda wildcards: tokenized(wildcards.mixture, "tokens"),
        ends=lambda wildcards: tokenized(wildcards.mixture, "ends"),
        manifests=lambda wildcards: tokenized(wildcards.mixture, "manifest"),
    output:
        packed=directory(f"{R}/packed/{{mixture}}"),
    log:
        f"{R}/logs/pack/{{mixture}}.log",
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(30, 3),
    params:
        shares=lambda wildcards: cfg.mixtures[wildcards.mixture],
        shards=lambda wildcards: {corpus: SHARDS[corpus] for corpus in cfg.mixtures[wildcards.mixture]},
        packing=lambda wildcards: cfg.packing_settings(wildcards.mixture),
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
    output:
        page=f"{R}/corpora/drops.md",
    log:
        f"{R}/logs/drop_report.log",
    resources:
        mem_mb=growing(1000),
        runtime=minutes(15),
    params:
        corpora=CORPORA,
    message:
        "examples of what was dropped"
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
