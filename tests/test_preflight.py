"""Preflight where Slurm's commands answer as the test says: each problem is told with its remedy."""

import getpass
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from tests.test_config import merged

from cpt import preflight as checks
from cpt import slurm
from cpt.config import load
from cpt.errors import UserError
from cpt.preflight import Repository, Request, Site
from preflight import preflight

USER = getpass.getuser()
NODES = [  # partition, node, CPUs, MB, GPUs, features, time limit, state
    "cpu*\tc1\t8\t16000\t(null)\tavx,old\t1-00:00:00\tidle",
    "cpu*\tc2\t8\t16000\t(null)\tavx\t1-00:00:00\tmixed",
    "gpu\tg1\t32\t64000\tgpu:a100:4(S:0-1)\tnew\t12:00:00\tidle",
    "gpu\tg2\t32\t64000\tgpu:a100:4(S:0-1)\tnew\t12:00:00\tdown*",
]
SITE = Site(account=None, constraint=None, gpu_model=None, poll_seconds=40)
JOB = Request(
    **{"what": "training x", "key": "runs.x", "partition": None, "nodes": 1, "gpus": 0, "cpus": 8},
    **{"mem_mb": 8000, "most_mb": 16000, "minutes": 600},
)
ANSWER = SimpleNamespace(headers={}, request=None, status_code=404)  # what the hub's errors show of HTTP


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
    ("job", "site", "told"),
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
        (
            {"nodes": 2},
            {"constraint": "old"},
            "1 such in the default partition: too few nodes have the feature CPT_SLURM_CONSTRAINT=old; name ",
        ),
    ],
)
def test_a_job_that_no_node_can_take(commands, job, site, told):
    good, text = checks.check_request(replace(JOB, **job), replace(SITE, **site))
    assert not good and told in text


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
    commands("sinfo", f"gpu*\tg1\t32\t64000\t{gres}\tnew\t12:00:00\tidle")
    assert checks.offered_nodes(None)[0].gpus == gpus


def test_a_job_that_fits(commands):
    good, text = checks.check_request(replace(JOB, nodes=2), replace(SITE, constraint="avx"))
    assert good and "2 such node(s) in the default partition" in text


def test_an_account_of_someone_else(commands):
    assert checks.check_account(replace(SITE, account="physics"))[0]  # nothing to compare it with
    commands("sacctmgr", "linguistics\nbiology")
    good, text = checks.check_account(replace(SITE, account="physics"))
    assert not good
    assert text == f"{USER} has no account physics; set CPT_SLURM_ACCOUNT to one of biology, linguistics"
    assert checks.check_account(replace(SITE, account="biology"))[0]


def test_a_slurm_that_forgets_jobs_before_snakemake_looks(commands):
    assert checks.check_status(SITE)[0]
    commands("scontrol", "MinJobAge               = 90 sec")
    good, text = checks.check_status(SITE)
    assert not good
    assert "after 90 s (MinJobAge), and Snakemake looks every 40 s; set CPT_SLURM_POLL_SECONDS to 30" in text


def test_a_folder_that_jobs_do_not_see(commands, tmp_path):
    good, text = checks.check_shared_folder(None, tmp_path / "results")
    assert good, text
    commands("srun", "No such file or directory")
    good, text = checks.check_shared_folder("gpu", tmp_path / "results")
    assert not good and text.startswith(f"a job in gpu doesn't see {tmp_path / 'results'} or ")
    assert text.endswith("put the clone with its .venv on a file system that login and compute nodes share")
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "told"),
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
def test_a_repository_that_cannot_be_read(monkeypatch, error, told):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(HfApi, "repo_info", refuse)
    monkeypatch.setenv("HF_TOKEN", "hf_secretToken")
    good, text = checks.check_hub(Repository("model", "team/model", "main", "base"))
    assert not good and "secret" not in text
    assert text.startswith(f"model team/model: {type(error).__name__} (a token is set); {told}")


def test_a_disk_that_is_too_small(tmp_path):
    good, text = checks.check_disk(tmp_path / "results", 10**18)
    assert not good
    assert "of at least 1,000,000,000.0 GB needed; make room, or set `results`" in text


def check_all(results: Path, tokens: str) -> None:
    config = load(merged({"runs": {"cpt-1B": {"tokens": tokens}, "cpt-400M": None}}))
    preflight([], SITE, results, config, {})


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
    (name, (good, text)), *_ = checks.findings([], [], SITE, tmp_path, 0)
    assert (name, good) == ("Slurm", False)
    assert text.endswith("start this on a login node of the cluster")
