"""A real Slurm of two nodes with GPUs on one host: in namespaces of its own, without systemd.

munged, slurmctld and one slurmd per node (on request slurmdbd with MariaDB) run under `unshare` with a
private network, private process numbers, a host name per node, and /etc/slurm bound to the cluster's own
folder. So it uses no port and no file outside that folder, doesn't disturb a Slurm of the machine, and ends
with the test: the kernel kills everything in the namespace when its first process ends.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

NODES = ("n1", "n2")
GPUS, CPUS, MEMORY_MB = 2, 32, 100_000  # of each node, as configured: Slurm never checks them
NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "unshare", "nsenter", "ip")
DATABASE_PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db")
ENVIRONMENT = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

# The first process of the namespace: it prepares network and mounts, and lives until its stdin closes.
# Slurm resolves names with AI_ADDRCONFIG, which finds nothing if all addresses are loopback ones.
FIRST_PROCESS = """
set -eu
hostname login
ip link set lo up
ip address add 192.0.2.1/32 dev lo
mount --bind "$1/hosts" /etc/hosts
[ -d /etc/slurm ] || mkdir /etc/slurm
mount --bind "$1/etc" /etc/slurm
echo ready
read -r _ || true
"""

# A node's processes are those in the host-name namespace of its slurmd.
KILL_NODE = """
host=$(readlink /proc/$(cat "$0")/ns/uts)
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/ns/uts")" != "$host" ] || kill -KILL "${process#/proc/}"
done
"""


def missing(database: bool = False) -> str:
    """Why such a cluster can't be started on this machine; empty if it can."""
    wanted = PROGRAMS + (DATABASE_PROGRAMS if database else ())
    absent = [name for name in wanted if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    trial = subprocess.run([*_unshare(), "true"], capture_output=True, text=True)
    return "" if trial.returncode == 0 else f"no namespaces here: {trial.stderr.strip()}"


def _unshare() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return ["unshare", *NAMESPACES, "--mount-proc", "--fork", "--kill-child", *user]


class Cluster:
    """A context manager; inside it, `run` starts commands on the cluster's login node.

    Args:
        folder: for all its files; a short path, since it holds sockets.
        database: with slurmdbd, so that sacct answers, and accounts exist.
        settings: changed lines of slurm.conf.
    """

    def __init__(self, folder: Path, database: bool = False, settings: Mapping[str, str] | None = None):
        self.folder, self.database, self.settings = folder, database, dict(settings or {})
        self.completed_jobs = folder / "jobcomp"

    def __enter__(self) -> "Cluster":
        for part in ("etc", "state", "spool", "log", "pid", "munge", "devices"):
            (self.folder / part).mkdir(parents=True, mode=0o755, exist_ok=True)
        (self.folder / "munge").chmod(0o700)
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (self.folder / "munge.key").chmod(0o400)
        hosts = ["127.0.0.1 localhost login", *(f"127.0.1.{i} {node}" for i, node in enumerate(NODES, 1))]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        for number in range(GPUS):  # a GPU must be a device file; Slurm checks no more
            (self.folder / "devices" / f"gpu{number}").symlink_to("/dev/null")
        (self.folder / "etc" / "slurm.conf").write_text(self._slurm_conf())
        (self.folder / "etc" / "gres.conf").write_text(
            f"AutoDetect=off\nNodeName={','.join(NODES)} Name=gpu Type=fake "
            f"File={self.folder}/devices/gpu[0-{GPUS - 1}]\n"
        )
        self.process = subprocess.Popen(
            [*_unshare(), "bash", "-c", FIRST_PROCESS, "first", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        try:
            assert self.process.stdout.readline() == "ready\n", "the namespaces can't be prepared"
            self.first = psutil.Process(self.process.pid).children()[0].pid
            self._start_daemons()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # unshare hands the kill on to the first process, and the kernel to all others
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def command(self, *arguments: str, folder: Path | None = None) -> list[str]:
        """A command line that runs `arguments` inside, by default in the cluster's folder."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        inside = ["nsenter", f"--target={self.first}", *NAMESPACES, *user]
        return [*inside, "sh", "-c", 'cd "$0" && exec "$@"', str(folder or self.folder), *arguments]

    def environment(self) -> dict[str, str]:
        """This process's environment without what an outer Slurm job may have set."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        return kept | ENVIRONMENT

    def run(self, *arguments: str, folder: Path | None = None, check: bool = True) -> str:
        """Run a command inside; returns what it printed."""
        result = subprocess.run(
            self.command(*arguments, folder=folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
            timeout=60,
        )
        assert not check or result.returncode == 0, f"{arguments}: {result.stdout}\n{self.logs()}"
        return result.stdout

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}"
            for path in sorted((self.folder / "log").iterdir())
        )

    def kill_node(self, node: str) -> None:
        """SIGKILL a node's slurmd and all that runs on it, as a power cut would."""
        self.run("sh", "-c", KILL_NODE, f"{self.folder}/pid/slurmd.{node}", check=False)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, under its own host name."""
        self.run("unshare", "--uts", "sh", "-c", 'hostname "$0"; exec slurmd -N "$0"', node)

    def _start_daemons(self) -> None:
        munge = self.folder / "munge"
        self.run(
            "munged",
            "--force",
            "--num-threads=2",
            f"--key-file={self.folder}/munge.key",
            f"--socket={munge}/socket",
            f"--pid-file={munge}/pid",
            f"--log-file={munge}/log",
            f"--seed-file={munge}/seed",
        )
        if self.database:
            self._start_database()
        self.run("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_until_idle(len(NODES))

    def wait_until_down(self, node: str, seconds: float = 90) -> None:
        """Wait until Slurm has noticed that a node doesn't answer."""
        end = time.monotonic() + seconds
        while "down" not in self.run("sinfo", "-h", "-N", "-n", node, "-o", "%T"):
            assert time.monotonic() < end, f"{node} isn't down\n{self.logs()}"
            time.sleep(0.5)

    def wait_until_idle(self, nodes: int, seconds: float = 30) -> None:
        """Wait until this many nodes are idle."""
        end = time.monotonic() + seconds
        while len(self.run("sinfo", "-h", "-N", "-t", "idle", "-p", "cpu", check=False).splitlines()) < nodes:
            assert time.monotonic() < end, f"the cluster doesn't come up\n{self.logs()}"
            time.sleep(0.1)

    def _slurm_conf(self) -> str:
        user = pwd.getpwuid(os.geteuid()).pw_name
        lines = {
            "ClusterName": "test",
            "SlurmctldHost": "login(127.0.0.1)",
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "CredType": "cred/munge",
            "AuthInfo": f"socket={self.folder}/munge/socket",
            "StateSaveLocation": f"{self.folder}/state",
            "SlurmdSpoolDir": f"{self.folder}/spool/%n",
            "SlurmctldPidFile": f"{self.folder}/pid/slurmctld",
            "SlurmdPidFile": f"{self.folder}/pid/slurmd.%n",
            "SlurmctldLogFile": f"{self.folder}/log/slurmctld",
            "SlurmdLogFile": f"{self.folder}/log/slurmd.%n",
            # neither cgroups nor a switch
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": "task=2",
            "JobAcctGatherParams": "OverMemoryKill",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "bf_interval=1,sched_interval=5,batch_sched_delay=0,defer_batch",
            "GresTypes": "gpu",
            "MinJobAge": "3600",  # seconds that scontrol shows a finished job
            "JobCompType": "jobcomp/filetxt",
            "JobCompLoc": str(self.completed_jobs),
            # notice soon what tests break; a job of a lost node fails at once, and Snakemake resubmits it
            "ReturnToService": "2",
            "SlurmdTimeout": "10",
            "SlurmctldTimeout": "10",
            "KillWait": "10",
            "JobRequeue": "0",
            "InactiveLimit": "0",
            "OverTimeLimit": "0",
            "SlurmdParameters": "config_overrides",
        }
        if self.database:
            lines |= {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": "localhost",
                "AccountingStoragePass": f"{self.folder}/munge/socket",
                "AccountingStorageTRES": "gres/gpu",
                "AccountingStorageEnforce": "associations",
            }
        lines |= self.settings
        nodes = f"n[1-{len(NODES)}]"
        last = [
            f"NodeName={nodes} NodeAddr=127.0.1.[1-{len(NODES)}] Port=[17001-{17000 + len(NODES)}] "
            f"CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:fake:{GPUS} Features=fast,new State=UNKNOWN",
            f"PartitionName=cpu Nodes={nodes} Default=YES MaxTime=1-0",
            f"PartitionName=gpu Nodes={nodes} MaxTime=1-0",
            f"PartitionName=urgent Nodes={nodes} MaxTime=1-0 PriorityTier=10",
        ]
        return "\n".join([*(f"{key}={value}" for key, value in lines.items()), *last]) + "\n"

    def _start_database(self) -> None:
        data, socket = self.folder / "mysql", self.folder / "pid" / "mysql.sock"
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.run(
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            f"--user={user}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        subprocess.Popen(
            self.command(
                "mariadbd",
                "--no-defaults",
                f"--datadir={data}",
                f"--user={user}",
                f"--socket={socket}",
                f"--pid-file={self.folder}/pid/mariadbd",
                "--bind-address=127.0.0.1",
                "--port=13306",
                "--innodb-buffer-pool-size=64M",
                "--innodb-lock-wait-timeout=900",
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment(),
        )
        grant = "grant all on slurm_acct_db.* to slurm@localhost identified by 'slurm'"
        self._until("mariadb", "--no-defaults", "-S", str(socket), "-u", "root", "-e", grant)
        configuration = self.folder / "etc" / "slurmdbd.conf"
        configuration.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge/socket\nDbdHost=localhost\n"
            f"DbdAddr=127.0.0.1\nSlurmUser={user}\nLogFile={self.folder}/log/slurmdbd\n"
            f"PidFile={self.folder}/pid/slurmdbd\nStorageType=accounting_storage/mysql\n"
            "StorageHost=127.0.0.1\nStoragePort=13306\nStorageUser=slurm\nStoragePass=slurm\n"
        )
        configuration.chmod(0o600)
        self.run("slurmdbd")
        self._until("sacctmgr", "-i", "add", "cluster", "test")
        self._until("sacctmgr", "-i", "add", "account", "project", "Description=x", "Organization=x")
        self._until("sacctmgr", "-i", "add", "user", user, "Account=project")

    def _until(self, *arguments: str) -> None:
        """Run a command until it succeeds, for 30 seconds at most."""
        end = time.monotonic() + 30
        while True:
            result = subprocess.run(
                self.command(*arguments), capture_output=True, text=True, env=self.environment()
            )
            if result.returncode == 0:
                return
            assert time.monotonic() < end, f"{arguments}: {result.stdout}{result.stderr}\n{self.logs()}"
            time.sleep(0.2)
