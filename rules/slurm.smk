# What jobs ask Slurm for, by the site's environment variables CPT_SLURM_* (docs/cluster-sites.md), and the plan that a
# dry run prints.
import atexit

from snakemake.logging import logger

from cpt import submission
from cpt.config_errors import nearest


def site(name, default=None, gpus=0):
    """Returns the value that the site sets for its cluster in CPT_SLURM_{name}, or the default. For jobs with GPUs,
    CPT_SLURM_GPU_{name} comes first."""
    gpu_value = os.environ.get(f"CPT_SLURM_GPU_{name}") if gpus else None
    return gpu_value or os.environ.get(f"CPT_SLURM_{name}") or default


def site_number(name, default):
    """Returns the same as a whole number. Raises WorkflowError if it isn't one."""
    value = site(name, default)
    if not str(value).isdecimal():
        raise WorkflowError(
            f"CPT_SLURM_{name}: expected a whole number, but it is {value!r}; correct or unset it"
        )
    return int(value)


SITE_QUEUE = (
    "ACCOUNT",
    "PARTITION",
    "CONSTRAINT",
    "QOS",
    "EXTRA",
)  # with GPU_ before them for jobs with GPUs
SITE_TEXTS = ("GPU_MODEL", "GPU_OPTION", "MAIL")
SITE_NUMBERS = (
    "JOBS",
    "MAX_MB",
    "MAX_MINUTES",
    "POLL_SECONDS",
    "RETRIES",
    "SHARDS_PER_JOB",
    "TRAIN_MINUTES",
    "WARNING_SECONDS",
)
SITE = {
    f"CPT_SLURM_{name}"
    for name in (*SITE_QUEUE, *(f"GPU_{name}" for name in SITE_QUEUE), *SITE_TEXTS, *SITE_NUMBERS)
}
for variable in sorted(os.environ):
    if variable.startswith("CPT_SLURM_") and variable not in SITE:
        raise WorkflowError(f"{variable}: nothing reads this variable{nearest(variable, sorted(SITE))}")
for name in SITE_NUMBERS:
    site_number(name, 0)

MAX_MINUTES = site_number("MAX_MINUTES", 7 * 24 * 60)
MAX_MB = site_number("MAX_MB", 10**9)
TRAIN_MINUTES = site_number("TRAIN_MINUTES", min(720, MAX_MINUTES))
RETRIES = site_number("RETRIES", 4)
SHARDS_PER_JOB = min(site_number("SHARDS_PER_JOB", 8), max(SHARDS.values(), default=1))
SHARD_MB, STAGE_MB = 2000, 4000  # of a data stage that reads one shard, and of one that reads all
SCORE_MB, SCORE_MINUTES = (16000 if ON_GPU else 4000), 480  # of a job that scores several tasks


def size_mb(paths):
    """Returns the total size of those files that exist, in MB (10^6 bytes)."""
    return sum(Path(path).stat().st_size for path in paths if Path(path).is_file()) / 1e6


def growing(megabytes, together=1):
    """Returns memory in MB that grows with the attempt; `together` jobs stay below the site's limit."""
    return lambda wildcards, attempt: min(megabytes * attempt, MAX_MB // together)


def minutes(count, per_gigabyte=0, rules=1):
    """Returns a time limit in minutes that grows with the input and the attempt, up to the site's longest limit.

    `rules` that follow one another in one Slurm job share the longest limit, as their limits add up.
    """

    def limit(wildcards, input, attempt):
        return min(round((count + per_gigabyte * size_mb(input) / 1000) * attempt), MAX_MINUTES // rules)

    return limit


# Resource of the Slurm plugin: option of sbatch and site's variable.
QUEUE = {"slurm_account": "account", "slurm_partition": "partition", "constraint": "constraint", "qos": "qos"}
GPU_OPTIONS = ("gpus", "gpus-per-node", "gres", "none")
GPU_OPTION = site("GPU_OPTION", "gpus")
if GPU_OPTION not in GPU_OPTIONS:
    raise WorkflowError(
        f"CPT_SLURM_GPU_OPTION: expected one of {', '.join(GPU_OPTIONS)}, but it is {GPU_OPTION!r}; correct or unset it"
    )


def slurm_extra(gpus, *options):
    """Returns the options of sbatch that no resource covers: `options`, mail if the site names an address, and
    the site's own."""
    mail = [f"--mail-user={site('MAIL')}", "--mail-type=FAIL"] if site("MAIL") else []
    return " ".join([*options, *mail, *filter(None, [site("EXTRA", gpus=gpus)])])


def asked_of_slurm(gpus, nodes=1, options=()):
    """Returns the resources of a job with `gpus` GPUs on each node: queue, GPUs and further options, as the site
    sets them. The job doesn't ask for a resource that is None.

    By default a job on one node asks for a total of GPUs, and a job on several for GPUs per node (`gres`), as one
    node might get none of a total. `gpus_per_node` is for the plan of a dry run: Slurm doesn't see it.
    """
    option = "gres" if GPU_OPTION == "gpus" and nodes > 1 else GPU_OPTION
    model = site("GPU_MODEL") if gpus else None
    typed = f"{model}:{gpus}" if model else str(gpus)
    by_node = [f"--gpus-per-node={typed}"] if gpus and option == "gpus-per-node" else []
    return {
        **{resource: site(name.upper(), gpus=gpus) for resource, name in QUEUE.items()},
        "gpu": gpus if option == "gpus" else None,
        "gpu_model": model if option == "gpus" else None,
        "gres": f"gpu:{typed}" if gpus and option == "gres" else None,
        "gpus_per_node": gpus,
        "slurm_extra": slurm_extra(gpus, *by_node, *options),
    }


def run_of(wildcards):
    """Returns the settings of the run or proxy that a job trains."""
    return cfg.run_of(wildcards.run)


def place_of(run, options=()):
    """Returns the resources of a job that starts a run's processes. The job doesn't ask for one that is None.

    On one node, Slurm starts the rule's command in a step with all GPUs. On several nodes, the command starts
    once outside any step (`mpi`), and scripts/launch.py starts the steps.
    """
    several = run.nodes > 1
    gpus = run.gpus // run.nodes
    return {
        **asked_of_slurm(gpus, run.nodes, options),
        "nodes": run.nodes,
        "cpus_per_task": 8 * gpus or run.cpus // run.nodes,
        "mpi": "srun" if several else None,
        "tasks": run.nodes if several else None,
        "tasks_per_gpu": 0 if several and gpus else None,  # or `tasks` would count per GPU
    }


PLACE = list(place_of(next(iter(cfg.runs.values()))))


def placed(run=run_of, options=()):
    """Returns place_of, memory and time limit as resources of a rule; `run` finds the run by wildcards."""

    def resource(key):
        return lambda wildcards: place_of(run(wildcards), options)[key]

    return {
        **{key: resource(key) for key in PLACE},
        "mem_mb": training_mb_of(run),
        "runtime": TRAIN_MINUTES,  # near the limit, training writes a checkpoint; the next attempt resumes from it
    }


def training_mb(run):
    """Returns the memory in MB of each node that trains a run: libraries, and the model's state on the CPU.

    The state has, for every parameter, up to 16 bytes of offloaded weights, gradient and moments, and 24 of a
    checkpoint being taken and written: at most 20 times the file, if it has two bytes per parameter.
    """
    model = 20 * size_mb([f"{R}/models/base/model.safetensors"])
    return 8000 * (run.processes // run.nodes) + 1000 * round(model / 1000)


def training_mb_of(run):
    """Returns each node's memory as a resource. The second attempt gets twice the first's, in case it ran out; later
    ones, which a run over several time limits needs, get no more."""
    return lambda wildcards, attempt: min(training_mb(run(wildcards)) * min(attempt, 2), MAX_MB)


def corpus_disk_mb(bytes_per_token):
    """Returns the disk in MB that a shard takes in a stage; 0 if the config doesn't state the shard's tokens."""

    def disk(wildcards):
        source = cfg.corpora[wildcards.corpus]
        return round((getattr(source, "tokens_per_shard", None) or 0) * bytes_per_token / 1e6)

    return disk


def training_disk_mb(wildcards, input):
    """Returns the disk in MB of a run's checkpoints and its model; 0 until the start model exists.

    The start model's files have at least 2 bytes per parameter.
    """
    train, run = cfg.train_settings(wildcards.run), run_of(wildcards)
    states = sizes.kept_states(run.tokens, run.keep_every)
    parameter = sizes.training_bytes_per_parameter(train.moments, train.keep_checkpoints, states)
    return round(parameter / 2 * size_mb(Path(str(input.start)).glob("model*.safetensors")))


# What a job that scores a model asks for.
SCORING_PLACE = {**asked_of_slurm(int(ON_GPU)), "nodes": 1, "mem_mb": growing(SCORE_MB)}


ELSEWHERE = (
    f"`cd FOLDER; snakemake -s {shlex.quote(str(workflow.main_snakefile))} "
    f"--profile {shlex.quote(str(Path(workflow.basedir) / 'slurm'))} ...`"
)


def refuse_to_double_slurm_jobs():
    """Stop before anything is submitted if jobs of a workflow that was killed still run here."""
    try:
        jobs = slurm.stray_jobs(Path.cwd())
    except UserError as error:
        if on_cluster():
            raise WorkflowError(str(error))
        return  # this workflow runs without Slurm
    if jobs:
        raise WorkflowError(
            f"Slurm jobs of an earlier workflow in this folder are still queued or running "
            f"({', '.join(job.number for job in jobs)}), and would write the same files; `make resume` waits for "
            f"them and resumes. If that workflow still works, start this one in a folder of its own: {ELSEWHERE}"
        )


def on_cluster():
    """Returns whether this workflow submits jobs to Slurm, or would without --dry-run."""
    return workflow.resource_settings.nodes is not None


def print_plan():
    """Print, at the end of a dry run for a cluster, what the jobs would ask for, by rule."""
    if not workflow.dryrun or not on_cluster():
        return
    place = {rule.name: number for number, rule in enumerate(workflow.rules)}
    jobs = sorted(workflow.dag.needrun_jobs(exclude_finished=False), key=lambda job: place[job.rule.name])
    if jobs:
        rows = [
            (job.rule.name, dict(job.resources.items()), job.threads, job.rule.name in workflow._localrules)
            for job in jobs
        ]
        print(slurm.plan_table(rows), file=sys.stderr)


atexit.register(print_plan)

if workflow.is_main_process and on_cluster():
    if allocation := submission.leave_allocation(os.environ):
        logger.warning(
            f"Snakemake runs inside Slurm job {allocation}, and ends with it; jobs that it has submitted then run "
            "on, and `make resume` resumes the rest"
        )
    submission.adapt_plugin(site_number("POLL_SECONDS", 40), logger)


def sbatch_options(request, asked):
    """Returns a request for `preflight`, with its partition and its options of sbatch."""
    model = f"{asked['gpu_model']}:" if asked["gpu_model"] else ""
    options = {name: asked[resource] for resource, name in QUEUE.items()}
    limits = {"nodes": request["nodes"], "cpus-per-task": request["cpus"], "time": request["minutes"]}
    limits |= {"mem": min(request["mem_mb"], MAX_MB)}
    gpus = {"gpus": asked["gpu"] and f"{model}{asked['gpu']}", "gres": asked["gres"]}
    extra = shlex.split(asked["slurm_extra"])
    by_node = [option for option in extra if option.startswith("--gpus-per-node=")]

    def words(options):
        return [f"--{name}={value}" for name, value in options.items() if value]

    return request | {
        "partition": asked["slurm_partition"],
        "queue": [*words(options), *(option for option in extra if option not in by_node)],
        "asked": [*words(limits | gpus), *by_node],
    }


def requests():
    """Returns the largest jobs that will be submitted: `preflight` compares them with what the cluster offers.

    `most_mb` is the memory of the last attempt.
    """

    def most_mb(megabytes, attempts=RETRIES + 1):
        return min(megabytes * attempts, MAX_MB)

    trained = [
        sbatch_options(
            {
                "what": f"training {name}",
                "key": f"runs.{name}",
                "nodes": run.nodes,
                "gpus": run.gpus // run.nodes,
                "cpus": place_of(run)["cpus_per_task"],
                "mem_mb": training_mb(run),
                "most_mb": most_mb(training_mb(run), min(RETRIES + 1, 2)),
                "minutes": TRAIN_MINUTES,
            },
            place_of(run),
        )
        for name, run in cfg.runs.items()
        if name in cfg.trained_runs
    ]
    scoring = {"what": "scoring", "key": "runs", "nodes": 1, "gpus": int(ON_GPU), "cpus": 1}
    scoring |= {"mem_mb": SCORE_MB, "most_mb": most_mb(SCORE_MB), "minutes": min(SCORE_MINUTES, MAX_MINUTES)}
    stage_mb = max(STAGE_MB, SHARD_MB * SHARDS_PER_JOB)
    data = {"what": "data stages", "key": "corpora", "nodes": 1, "gpus": 0, "cpus": SHARDS_PER_JOB}
    data |= {"mem_mb": stage_mb, "most_mb": most_mb(stage_mb), "minutes": min(240, MAX_MINUTES)}
    return [*trained, sbatch_options(scoring, SCORING_PLACE), sbatch_options(data, asked_of_slurm(0))]


def hub_sources():
    """The hub's repositories that will be read: kind, name, revision, config key."""
    sources = [("dataset", cfg.corpora[name], f"corpora.{name}") for name in cfg.used_corpora]
    sources.append(("model", cfg.base, "base"))
    sources += [("model", model, f"reference_models.{name}") for name, model in cfg.reference_models.items()]
    sources += [("model", cfg.classifier, "classifier")] if SCORED else []
    benchmarks = cfg.evaluate.benchmarks
    pinned = benchmarks.revisions if benchmarks.source == "hub" else {}
    return [
        *(
            [kind, source.repo, source.revision, key]
            for kind, source, key in sources
            if source.source == "hub"
        ),
        *(["dataset", repo, commit, "evaluate.benchmarks.revisions"] for repo, commit in pinned.items()),
        *(["dataset", repo, commit, "evaluate.revisions"] for repo, commit in cfg.evaluate.revisions.items()),
    ]
