"""Preflight with Slurm commands that answer as the test says: it reports each problem with its remedy."""

import getpass
import logging
import os
import re
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from tests.test_config import merged

from cpt import cuda, probe, probe_jobs, slurm
from cpt import preflight as checks
from cpt.config import load
from cpt.errors import UserError
from cpt.preflight import Repository, Request, Site
from cpt.probe_jobs import ProbeJob
from preflight import preflight

USER = getpass.getuser()
NODES = [  # partition, node, CPUs, MB, GPUs, time limit, state
    "cpu*\tc1\t8\t16000\t(null)\t1-00:00:00\tidle",
    "cpu*\tc2\t8\t16000\t(null)\t1-00:00:00\tmixed",
    "gpu\tg1\t32\t64000\tgpu:a100:4(S:0-1)\t12:00:00\tidle",
    "gpu\tg2\t32\t64000\tgpu:a100:4(S:0-1)\t12:00:00\tdown*",
]
SITE = Site(account=None, gpu_model=None, poll_seconds=40, jobs=50)
JOB = Request(
    **{"what": "training x", "key": "runs.x", "partition": None, "nodes": 1, "gpus": 0, "cpus": 8},
    **{"mem_mb": 8000, "most_mb": 16000, "minutes": 600, "queue": ["--qos=x"], "asked": ["--gpus=1"]},
)
ANSWER = SimpleNamespace(headers={}, request=None, status_code=404)  # the HTTP that the hub's errors show


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder at the head of the PATH in which a command prints what it is given; jobs see all files."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def give(name: str, prints: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{prints}\nEND\n")
        (folder / name).chmod(0o755)

    give("sinfo", "\n".join(NODES))
    give("sacctmgr", "")
    give("scontrol", "MinJobAge = 300 sec")
    (folder / "srun").write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n')
    (folder / "srun").chmod(0o755)
    return give


@pytest.mark.parametrize(
    ("job", "site", "message"),
    [
        ({"partition": "fast"}, {}, "partition fast: no node that is up; set CPT_SLURM_PARTITION to one of"),
        (
            {"gpus": 1, "partition": "tpu"},
            {},
            "partition tpu: no node that is up; set CPT_SLURM_GPU_PARTITION to one of",
        ),
        (
            {"minutes": 2000},
            {},
            "2000 minutes are over the 1440 of the default partition; set CPT_SLURM_MAX_MINUTES=1440",
        ),
        (
            {"gpus": 8, "partition": "gpu"},
            {},
            "0 such in partition gpu: the most GPUs on a node are 4; set runs.x.nodes so that gpus / nodes",
        ),
        (
            {"gpus": 2, "partition": "gpu"},
            {"gpu_model": "h100"},
            "the most GPUs of model h100 on a node are 0; set runs.x.nodes so that",
        ),
        (
            {"gpus": 4, "partition": "gpu", "nodes": 2, "cpus": 32},
            {},
            "2 node(s) with 4 GPU(s), 32 CPUs, 8000 MB: 1 such in partition gpu: ",  # the other one is down
        ),
        (
            {"cpus": 16},
            {},
            "nodes have 8 CPUs; raise runs.x.nodes, or set CPT_SLURM_PARTITION to a partition with more",
        ),
        (
            {"mem_mb": 20000},
            {},
            "nodes have 16000 MB; set CPT_SLURM_PARTITION to a partition with more",
        ),
        (
            {"mem_mb": 12000, "most_mb": 24000},
            {},
            "nodes have 16000 MB, and further attempts ask for up to 24000 MB; set CPT_SLURM_MAX_MB=16000",
        ),
    ],
)
def test_a_job_that_no_node_can_take(commands, job, site, message):
    good, text = checks.check_request(replace(JOB, **job), replace(SITE, **site))
    assert not good and message in text


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:8", {"": 8}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:3090:8", {"3090": 8}),
        ("gpu:2080ti:4,gpu:1g.10gb:7(S:0)", {"2080ti": 4, "1g.10gb": 7}),
        ("(null)", {}),
    ],
)
def test_names_of_gpus(commands, gres, gpus):
    commands("sinfo", f"gpu*\tg1\t32\t64000\t{gres}\t12:00:00\tidle")
    assert checks.offered_nodes(None)[0].gpus == gpus


def test_a_job_that_fits(commands):
    good, text = checks.check_request(replace(JOB, nodes=2), SITE)
    assert good and "2 such node(s) in the default partition" in text


def test_an_account_of_someone_else(commands):
    assert checks.check_account(replace(SITE, account="physics"))[0]  # nothing to compare it with
    commands("sacctmgr", "linguistics\nbiology")
    good, text = checks.check_account(replace(SITE, account="physics"))
    assert not good
    assert text == f"{USER} has no account physics; set CPT_SLURM_ACCOUNT to one of biology, linguistics"
    assert checks.check_account(replace(SITE, account="biology"))[0]


def test_a_site_that_gives_whole_nodes_may_list_no_gpus(commands):
    commands("sinfo", NODES[0])
    assert not checks.check_request(replace(JOB, gpus=4), SITE)[0]
    assert checks.check_request(replace(JOB, gpus=4, asked=["--mem=8000"]), SITE)[0]


def test_a_job_that_slurm_refuses(commands, tmp_path):
    refusal = "echo 'allocation failure: Invalid qos specification' >&2; exit 1"
    (tmp_path / "bin/sbatch").write_text(f"#!/bin/sh\n{refusal}\n")
    (tmp_path / "bin/sbatch").chmod(0o755)
    good, text = checks.check_submission(JOB)
    assert not good and "refuse such a job: allocation failure: Invalid qos specification; correct" in text
    assert text.endswith("Tried: sbatch --test-only --qos=x --gpus=1")
    commands("sbatch", "")
    assert checks.check_submission(JOB) == (True, "Slurm would take such a job")


def test_limits_of_submitted_jobs_are_reported(commands):
    assert checks.check_limits(SITE) == (True, "no limit is known; CPT_SLURM_JOBS is 50")
    commands("sacctmgr", "\n20\n400")
    assert checks.check_limits(SITE)[1].startswith(
        "the lowest limit of an account or QOS is 20 at once, and CPT_SLURM_JOBS is"
    )


def test_a_slurm_that_forgets_jobs_before_snakemake_looks(commands):
    assert checks.check_status(SITE)[0]
    commands("scontrol", "MinJobAge               = 90 sec")
    good, text = checks.check_status(SITE)
    assert not good
    assert "after 90 s (MinJobAge), and Snakemake looks every 40 s; set CPT_SLURM_POLL_SECONDS to 30" in text


CONFIG = load(merged({"train": {"engine": "ddp", "offload": []}}))
OFFLOADED = {"engine": "deepspeed", "zero_stage": 3, "offload": ["optimizer"], "compile": "auto"}


DATA = replace(JOB, key="corpora", queue=["--partition=cpu"], asked=["--mem=8000", "--nodes=1"])


def findings(job: ProbeJob) -> dict[str, tuple[bool | None, str]]:
    return dict(job.findings())


def test_a_job_of_each_kind_tries_what_it_needs(commands, tmp_path, monkeypatch):
    """The site's srun here starts the probe, and neither gives it a GPU nor sends it SIGTERM."""
    monkeypatch.setattr(probe_jobs, "WARNED_SECONDS", 1)
    printed = tmp_path / "printed"
    (tmp_path / "bin/srun").write_text(
        f'#!/bin/sh\nwhile [ "${{1#-}}" != "$1" ]; do echo "$1" >>{printed}; shift; done\nexec "$@"\n'
    )
    small, large = (replace(JOB, key="runs.cpt-1B", gpus=gpus, asked=[f"--gpus={gpus}"]) for gpus in (1, 2))
    config = load(merged({"train": OFFLOADED}))
    jobs = checks.probes([small, large, DATA, DATA], tmp_path / "results", config, cluster=True)
    on_gpus, data = map(findings, jobs)
    assert not on_gpus["GPU"][0] and f"({cuda.build()}" in on_gpus["GPU"][1]
    assert on_gpus["GPU"][1].startswith("the default partition with GPUs: no CUDA: ")
    good, text = on_gpus["signal"]
    assert not good and "no SIGTERM within 1 s of a job with --signal=TERM" in text
    assert on_gpus["compiler"] == (
        True,
        "the default partition with GPUs: DeepSpeed's CPU optimizer compiles",
    )
    assert [*data] == ["shared folder", "memory", "temporary files", "caches"]
    assert not [text for good, text in data.values() if good is False]
    for option in ("--qos=x", "--gpus=2", "--partition=cpu", "--mem=8000", "--signal=TERM@120"):
        assert printed.read_text().splitlines().count(option) == 1 + (option == "--signal=TERM@120"), option
    assert "--gpus=1" not in printed.read_text() and list((tmp_path / "results").iterdir()) == []


def test_jobs_that_do_not_see_this_folder(commands, tmp_path):
    commands("srun", "No such file or directory")
    (job,) = checks.probes([replace(DATA, partition="gpu")], tmp_path / "results", CONFIG, cluster=True)
    ((name, (good, text)),) = job.findings()
    assert (name, good) == ("shared folder", False)
    assert text.startswith(f"a job in gpu doesn't see {tmp_path / 'results'} or ")
    assert text.endswith("put the clone with its .venv on a file system that login and compute nodes share")
    assert list((tmp_path / "results").iterdir()) == []


def test_no_free_node(commands, tmp_path, monkeypatch):
    """Preflight cancels the waiting job, and reports nothing wrong."""
    monkeypatch.setattr(probe_jobs, "WAITING_SECONDS", 0.5)
    (tmp_path / "bin/srun").write_text(
        f"#!/bin/sh\ntrap 'echo cancelled >{tmp_path}/cancelled; kill $!; exit' TERM\nsleep 60 & wait\n"
    )
    (job,) = checks.probes([DATA], tmp_path / "results", CONFIG, cluster=True)
    assert findings(job) == {
        "jobs": (None, "no node of the default partition was free within 0.5 s; try again later")
    }
    assert (tmp_path / "cancelled").exists()


def test_this_machine_is_tried_where_nothing_is_submitted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(UserError, match=r"1 check\(s\) failed"):  # more than any machine has
        preflight([replace(DATA, gpus=99)], SITE, tmp_path / "results", CONFIG, {}, cluster=False)
    assert caplog.text.count("FAILED    GPU: this machine: ") == caplog.text.count("FAILED") == 1
    assert "ok        jobs: they run on this machine" in caplog.text
    # Jobs would ask for more memory than they use, so it doesn't matter here.
    assert not re.search(r"(?<!shared) memory: this machine", caplog.text)
    assert f"ok        temporary files: this machine: {tempfile.gettempdir()}: " in caplog.text


@pytest.mark.parametrize(
    ("product", "native", "problem"),
    [
        (
            lambda gpu: gpu,
            False,
            "compute capability 7.0, .*bfloat16 would be emulated, which is slow; set prec",
        ),
        (lambda gpu: gpu + 1, True, "a product differs from the CPU's by .*/cu126 has older GPUs'"),
        (
            None,
            True,
            "no kernel image is available for execution; if its kernels are missing, make environment",
        ),
    ],
)
def test_a_gpu_that_computes_slowly_or_wrongly_or_not(monkeypatch, product, native, problem):
    tesla = SimpleNamespace(name="V100", total_memory=16e9, major=7, minor=0)
    for name, value in (("is_available", True), ("device_count", 1), ("get_device_properties", tesla)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    own = torch.Tensor.to

    def to(tensor, place):
        if product is None:
            raise RuntimeError("CUDA error: no kernel image is available for execution\nCompile with ...")
        return own(tensor, "cpu")

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "cpu", product)
    ((good, text),) = cuda.gpus(1, bf16=True)
    assert not good and re.search(problem, text), text


def test_slurms_warning_is_noticed():
    handler = signal.getsignal(signal.SIGTERM)
    try:
        warned = probe.Warned()
        os.kill(os.getpid(), signal.SIGTERM)
        assert warned.finding(60) == (True, "Slurm sends SIGTERM ahead of a job's end (here after 0 s)")
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_memory_disk_and_shared_memory_that_are_too_small(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "_limits", lambda: iter([16e3, 500.0]))
    good, text = probe.memory_finding(8000)
    assert not good and text.startswith(
        "a control group allows 500 MB of the 8,000 that such a job needs; ask"
    )
    assert probe.memory_finding(400)[0]
    good, text = probe.folder_finding(tmp_path, 10**12, "set TMPDIR")
    assert not good and text.endswith("of 1,000,000,000,000 needed; set TMPDIR")
    (tmp_path / "file").touch()
    good, text = probe.folder_finding(tmp_path / "file", 0, "set TMPDIR")
    assert not good and text == f"{tmp_path}/file: 16 MB can't be written (File exists); set TMPDIR"
    monkeypatch.setattr(probe.shutil, "disk_usage", lambda folder: SimpleNamespace(total=64 * 2**20))
    good, text = probe.shared_memory_finding()
    assert not good and text.startswith(
        "/dev/shm has 67 MB, and NCCL may need 1,000; raise it, or NCCL_SHM_DI"
    )


@pytest.mark.parametrize(
    ("train", "needs"),
    [
        ({"compile": False, "precision": "float32"}, (False, False, False)),
        ({"compile": "auto", "precision": "bf16"}, (True, True, False)),
        (OFFLOADED, (True, True, True)),
    ],
)
def test_only_what_a_run_needs_is_tried(train, needs):
    config = load(
        merged({"train": {"engine": "ddp", "offload": []} | train, "evaluate": {"precision": "float32"}})
    )
    tried = probe_jobs.needs_of(["cpt-1B"], 2, 8000, config)
    assert (tried["bf16"], tried["c_compiler"], tried["cpu_adam"]) == needs
    assert not any(probe_jobs.needs_of(["cpt-1B"], 0, 0, config).values())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            GatedRepoError("gated", response=ANSWER),
            "accept its terms on the hub, and set HF_TOKEN to a token",
        ),
        (RepositoryNotFoundError("no", response=ANSWER), "check base.repo; if it is private, set HF_TOKEN"),
        (RevisionNotFoundError("no", response=ANSWER), "check base.revision"),
        (ConnectionError("secret"), "check the network of this node, proxies and HF_ENDPOINT"),
    ],
)
def test_a_repository_that_cannot_be_read(monkeypatch, error, message):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(HfApi, "repo_info", refuse)
    monkeypatch.setenv("HF_TOKEN", "hf_secretToken")
    good, text = checks.check_hub(Repository("model", "team/model", "main", "base"))
    assert not good and "secret" not in text
    assert text.startswith(f"model team/model: {type(error).__name__} (a token is set); {message}")


def test_a_disk_that_is_too_small(tmp_path):
    good, text = checks.check_disk(tmp_path / "results", 10**18)
    assert not good
    assert "of at least 1,000,000,000.0 GB needed; make room, or set `results`" in text


def check_all(results: Path, tokens: str) -> None:
    config = load(merged({"runs": {"cpt-1B": {"tokens": tokens}, "cpt-400M": None}}))
    preflight([], SITE, results, config, {}, cluster=True)


def test_it_ends_with_how_many_failed(commands, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    check_all(tmp_path / "results", "8K")
    assert "FAILED" not in caplog.text
    commands("scontrol", "MinJobAge = 1 sec")
    with pytest.raises(UserError, match=r"2 check\(s\) failed; nothing was submitted; fix what FAILED and"):
        check_all(tmp_path / "results", "90T")
    assert caplog.text.count("FAILED") == 2


def test_a_machine_without_slurm(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert slurm.answer("sinfo") is None
    (name, (good, text)), *_ = checks.findings([DATA], [], SITE, tmp_path, CONFIG, cluster=True)
    assert (name, good) == ("Slurm", False)
    assert text.endswith("start this on a login node of the cluster")
