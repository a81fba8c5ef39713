# Corpus: tokens, held-out text, packed sequences (paper section 3.2), and the pages that account for every document.
#
# REQUIRED INPUTS
#   filtered documents and keep-lists of rules/corpus.smk
#   {R}/models/base        for its tokenizer
# OUTPUTS
#   {R}/packed/{mixture}/              sequences.bin, boundaries, ledger.json; with conversations loss_mask.bin
#   {R}/corpora/{corpus}/held_out.parquet, held_out.{tokens}.npz
#   {R}/corpora/statistics.csv         documents, bytes and tokens after each stage
#   {R}/corpora/token_quality.csv      documents per bin of the token-level measures
#   {R}/corpora/{corpus}/documents.csv what became of each document of own files
#   {R}/corpora/drops.md               what each rule dropped, with examples to read, and warnings.txt


# Corpora of own files, whose documents are listed one by one.
OWN = [corpus for corpus in TEXTS if cfg.corpora[corpus].source == "local"]


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


# Replaces tokenize_documents for corpora of conversations.
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


# A checkpoint: after it, Snakemake plans again, and skips jobs whose sequences are the same as before.
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
        drops=all_shards(rules.filter_documents.output.drops),
        examples=all_shards(rules.filter_documents.output.examples),
        contamination=all_shards(rules.decontaminate.output.report),
        token_drops=all_shards(rules.tokenize_documents.output.drops),
        token_examples=all_shards(rules.tokenize_documents.output.examples),
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
        qualities=all_shards(rules.tokenize_documents.output.quality),
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
