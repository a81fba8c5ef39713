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


localrules:
    download,


# Own files are inputs, so that a changed file is read again.
SOURCE_FILES = {name: local_files(name) for name in cfg.used_corpora}


rule download:
    input:
        lambda wildcards: SOURCE_FILES[wildcards.corpus],
    output:
        documents=f"{R}/corpora/{{corpus}}/raw/{{shard}}.parquet",
        manifest=f"{R}/corpora/{{corpus}}/raw/{{shard}}.json",
    log:
        f"{R}/logs/download/{{corpus}}/{{shard}}.log",
    benchmark:
        f"{R}/timings/download/{{corpus}}/{{shard}}.tsv"
    threads: 1
    resources:
        disk_mb=corpus_disk_mb(sizes.PARQUET_BYTES_PER_TOKEN),
        shards=lambda wildcards: SHARDS[wildcards.corpus],  # not a parameter: another number reruns no shard
    params:
        command=script("download"),
        source=lambda wildcards: source_of(wildcards.corpus),
        environment=source_environment,
        code=code("download"),
    message:
        "download: {wildcards.corpus}, shard {wildcards.shard}"
    shell:
        "{params.command} --corpus {wildcards.corpus} --source {params.source:q} --shard {wildcards.shard}"
        " --shards {resources.shards} --output {output.documents:q} --manifest {output.manifest:q}"
        " --code {params.code} --log-file {log:q}"


rule filter_documents:
    input:
        rules.download.output.documents,
    output:
        documents=f"{R}/corpora/{{corpus}}/filtered/{{shard}}.parquet",
        drops=f"{R}/corpora/{{corpus}}/filtered/{{shard}}.drops.csv",
        examples=f"{R}/corpora/{{corpus}}/filtered/{{shard}}.examples.jsonl",
    log:
        f"{R}/logs/filter_documents/{{corpus}}/{{shard}}.log",
    benchmark:
        f"{R}/timings/filter_documents/{{corpus}}/{{shard}}.tsv"
    threads: 1
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        disk_mb=corpus_disk_mb(sizes.PARQUET_BYTES_PER_TOKEN),
        runtime=minutes(30, 30),
    params:
        command=script("filter_documents"),
        text_column=lambda wildcards: getattr(cfg.corpora[wildcards.corpus], "text_column", "text"),
        settings=lambda wildcards: filters_of(wildcards.corpus),
        normalize=cfg.deduplicate.normalize,
        code=code("filter_documents"),
    message:
        "filter: {wildcards.corpus}, shard {wildcards.shard}"
    shell:
        "{params.command} --input {input:q} --text-column {params.text_column:q}"
        " --settings {params.settings:q} --normalize {params.normalize} --output {output.documents:q}"
        " --drops {output.drops:q} --examples {output.examples:q} --code {params.code} --log-file {log:q}"


rule deduplicate:
    """Exact duplicates over all corpora."""
    input:
        shards_of(cfg.used_corpora, f"{R}/corpora/{{corpus}}/filtered/{{shard}}.parquet"),
    output:
        keep=shards_of(cfg.used_corpora, f"{R}/corpora/{{corpus}}/deduplicated/{{shard}}.keep.npy"),
        table=f"{R}/corpora/duplicates.csv",
    log:
        f"{R}/logs/deduplicate.log",
    benchmark:
        f"{R}/timings/deduplicate.tsv"
    threads: 1
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(60, 3),
    params:
        command=script("deduplicate"),
        corpora=json.dumps({name: SHARDS[name] for name in cfg.used_corpora}),
        root=lambda wildcards: f"{R}/corpora",
        settings=as_json(cfg.deduplicate.model_dump(exclude={"near"})),
        code=code("deduplicate"),
    message:
        "deduplicate: all shards of all corpora"
    shell:
        "{params.command} --corpora {params.corpora:q} --root {params.root:q}"
        " --settings {params.settings:q} --table {output.table:q} --code {params.code} --log-file {log:q}"


# The next two are only asked for with deduplicate.near.
rule minhash:
    input:
        rules.filter_documents.output.documents,
    output:
        f"{R}/corpora/{{corpus}}/minhash/{{shard}}.npy",
    log:
        f"{R}/logs/minhash/{{corpus}}/{{shard}}.log",
    benchmark:
        f"{R}/timings/minhash/{{corpus}}/{{shard}}.tsv"
    threads: 1
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        runtime=minutes(60, 60),
    params:
        command=script("minhash"),
        settings=as_json(cfg.deduplicate.near),
        code=code("minhash"),
    message:
        "minhash: {wildcards.corpus}, shard {wildcards.shard}"
    shell:
        "{params.command} --input {input:q} --settings {params.settings:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule near_duplicates:
    """Near-duplicates over all corpora, where configured."""
    input:
        shards_of(cfg.used_corpora, rules.filter_documents.output.documents),
        rules.deduplicate.output.keep,
        shards_of(cfg.used_corpora, rules.minhash.output[0]),
    output:
        keep=shards_of(cfg.used_corpora, f"{R}/corpora/{{corpus}}/near_deduplicated/{{shard}}.keep.npy"),
        table=f"{R}/corpora/near_duplicates.csv",
    log:
        f"{R}/logs/near_duplicates.log",
    benchmark:
        f"{R}/timings/near_duplicates.tsv"
    threads: 1
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(60, 3),
    params:
        command=script("near_duplicates"),
        corpora=json.dumps({name: SHARDS[name] for name in cfg.used_corpora}),
        root=lambda wildcards: f"{R}/corpora",
        code=code("near_duplicates"),
    message:
        "near-duplicates: all shards of all corpora"
    shell:
        "{params.command} --corpora {params.corpora:q} --root {params.root:q} --table {output.table:q}"
        " --code {params.code} --log-file {log:q}"


rule decontaminate:
    input:
        documents=rules.filter_documents.output.documents,
        keep=f"{R}/corpora/{{corpus}}/{'near_' if cfg.deduplicate.near else ''}deduplicated/{{shard}}.keep.npy",
        benchmarks=f"{R}/benchmarks",
    output:
        keep=f"{R}/corpora/{{corpus}}/decontaminated/{{shard}}.keep.npy",
        report=f"{R}/corpora/{{corpus}}/decontaminated/{{shard}}.json",
    log:
        f"{R}/logs/decontaminate/{{corpus}}/{{shard}}.log",
    benchmark:
        f"{R}/timings/decontaminate/{{corpus}}/{{shard}}.tsv"
    threads: 1
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        runtime=minutes(60, 60, rules=2),
    params:
        command=script("decontaminate"),
        settings=as_json(cfg.decontaminate),
        code=code("decontaminate"),
    message:
        "decontaminate: {wildcards.corpus}, shard {wildcards.shard}"
    shell:
        "{params.command} --input {input.documents:q} --keep {input.keep:q}"
        " --benchmarks {input.benchmarks:q} --settings {params.settings:q} --output {output.keep:q}"
        " --report {output.report:q} --code {params.code} --log-file {log:q}"


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
    benchmark:
        f"{R}/timings/tokenize_documents/{{corpus}}/{{shard}}.tsv"
    threads: 1
    resources:
        mem_mb=growing(SHARD_MB, SHARDS_PER_JOB),
        disk_mb=corpus_disk_mb(sizes.token_bytes(None)),
        runtime=minutes(60, 120, rules=2),
    params:
        command=script("tokenize_documents"),
        settings=as_json(
            {
                "token_quality": cfg.filters.token_quality.model_dump(),
                "held_out": cfg.held_out.model_dump(),
            }
        ),
        code=code("tokenize_documents"),
    message:
        "tokenize: {wildcards.corpus}, shard {wildcards.shard}"
    shell:
        "{params.command} --input {input.documents:q} --keep {input.keep:q} --model {input.model:q}"
        " --settings {params.settings:q} --tokens {output.tokens:q} --ends {output.ends:q}"
        " --held-out {output.held_out:q} --manifest {output.manifest:q} --drops {output.drops:q}"
        " --examples {output.examples:q} --quality {output.quality:q} --code {params.code} --log-file {log:q}"


rule held_out:
    input:
        lambda wildcards: shards_of([wildcards.corpus], rules.tokenize_documents.output.held_out),
    output:
        f"{R}/corpora/{{corpus}}/held_out.parquet",
    log:
        f"{R}/logs/held_out/{{corpus}}.log",
    benchmark:
        f"{R}/timings/held_out/{{corpus}}.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=minutes(30, rules=2),
    params:
        command=script("held_out"),
        code=code("held_out"),
    message:
        "held-out text: {wildcards.corpus}"
    shell:
        "{params.command} --corpus {wildcards.corpus} --inputs {input:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule held_out_tokens:
    input:
        documents=rules.held_out.output,
        model=f"{R}/models/base",
    output:
        f"{R}/corpora/{{corpus}}/held_out.{{tokens}}.npz",
    log:
        f"{R}/logs/held_out_tokens/{{corpus}}.{{tokens}}.log",
    benchmark:
        f"{R}/timings/held_out_tokens/{{corpus}}.{{tokens}}.tsv"
    wildcard_constraints:
        tokens=r"\d+",
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=minutes(30, rules=2),
    params:
        command=script("held_out_tokens"),
        code=code("held_out_tokens"),
    message:
        "held-out tokens: {wildcards.tokens} of {wildcards.corpus}"
    shell:
        "{params.command} --input {input.documents:q} --model {input.model:q} --tokens {wildcards.tokens}"
        " --output {output:q} --code {params.code} --log-file {log:q}"


rule pack:
    input:
        lambda wildcards: [
            path
            for kind in ("tokens", "ends", "manifest")
            for path in shards_of(
                cfg.mixtures[wildcards.mixture],
                getattr(rules.tokenize_documents.output, kind),
            )
        ],
    output:
        directory(f"{R}/packed/{{mixture}}"),
    log:
        f"{R}/logs/pack/{{mixture}}.log",
    benchmark:
        f"{R}/timings/pack/{{mixture}}.tsv"
    threads: 1
    resources:
        mem_mb=growing(STAGE_MB),
        runtime=minutes(30, 3),
    params:
        command=script("pack"),
        shares=lambda wildcards: json.dumps(cfg.mixtures[wildcards.mixture]),
        shards=lambda wildcards: json.dumps(
            {corpus: SHARDS[corpus] for corpus in cfg.mixtures[wildcards.mixture]}
        ),
        root=lambda wildcards: f"{R}/corpora",
        settings=lambda wildcards: as_json(cfg.packing_settings(wildcards.mixture)),
        code=code("pack"),
    message:
        "pack: mixture {wildcards.mixture}"
    shell:
        "{params.command} --mixture {params.shares:q} --name {wildcards.mixture} --shards {params.shards:q}"
        " --root {params.root:q} --settings {params.settings:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule drop_report:
    """What each rule dropped, with examples to read."""
    input:
        shards_of(cfg.used_corpora, rules.filter_documents.output.drops),
        shards_of(cfg.used_corpora, rules.filter_documents.output.examples),
        shards_of(cfg.used_corpora, rules.decontaminate.output.report),
        shards_of(cfg.used_corpora, rules.tokenize_documents.output.drops),
        shards_of(cfg.used_corpora, rules.tokenize_documents.output.examples),
    output:
        f"{R}/corpora/drops.md",
    log:
        f"{R}/logs/drop_report.log",
    benchmark:
        f"{R}/timings/drop_report.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=minutes(15),
    params:
        command=script("drop_report"),
        corpora=json.dumps({name: SHARDS[name] for name in cfg.used_corpora}),
        root=lambda wildcards: f"{R}/corpora",
        code=code("drop_report"),
    message:
        "examples of what was dropped"
    shell:
        "{params.command} --corpora {params.corpora:q} --root {params.root:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule corpus_statistics:
    """Documents, bytes and tokens of each corpus by stage and rule."""
    input:
        shards_of(cfg.used_corpora, rules.filter_documents.output.drops),
        shards_of(cfg.used_corpora, rules.decontaminate.output.report),
        shards_of(cfg.used_corpora, rules.tokenize_documents.output.drops),
        shards_of(cfg.used_corpora, rules.tokenize_documents.output.quality),
        duplicates=[
            rules.deduplicate.output.table,
            *([rules.near_duplicates.output.table] if cfg.deduplicate.near else []),
        ],
        packed=expand(rules.pack.output, mixture=USED_MIXTURES),
    output:
        table=f"{R}/corpora/statistics.csv",
        quality=f"{R}/corpora/token_quality.csv",
    log:
        f"{R}/logs/corpus_statistics.log",
    benchmark:
        f"{R}/timings/corpus_statistics.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=minutes(15),
    params:
        command=script("corpus_statistics"),
        corpora=json.dumps({name: SHARDS[name] for name in cfg.used_corpora}),
        root=lambda wildcards: f"{R}/corpora",
        ledgers=lambda wildcards, input: [f"{folder}/ledger.json" for folder in input.packed],
        code=code("corpus_statistics"),
    message:
        "statistics of all corpora"
    shell:
        "{params.command} --corpora {params.corpora:q} --root {params.root:q}"
        " --duplicates {input.duplicates:q} --ledgers {params.ledgers:q} --output {output.table:q}"
        " --quality {output.quality:q} --code {params.code} --log-file {log:q}"
