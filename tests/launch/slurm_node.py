"""A real one-node Slurm in a temporary folder: munged, slurmctld and slurmd as the present user, no systemd.

Two partitions share the node: ``low``, whose jobs are requeued when one of ``high`` wants their place.
Everything (keys, sockets, state, logs) lives in the one folder; nothing outside it is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")

#: The cores of the node, whatever the machine has (`config_overrides`), so that every machine schedules alike.
CORES = 2

SLURM_CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# How long credentials hold; a requeued job waits that long before it may start again.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=1,sched_interval=1
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE MaxTime=60 State=UP
PartitionName=high Nodes={host} PriorityTier=2 PreemptMode=OFF MaxTime=60 State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here, or None."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    return f"Slurm is not installed: no {', '.join(absent)}" if absent else None


class SlurmNode:
    """The node; a context manager. `environment` is what a process needs to talk to it."""

    def __init__(self) -> None:
        # Short, as a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> SlurmNode:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def command(self, *words: str) -> str:
        """The output of a Slurm command."""
        done = subprocess.run(
            [_program(words[0]), *words[1:]],
            env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """The fields that ``scontrol show job`` prints for one job."""
        text = self.command("scontrol", "--oneliner", "show", "job", job)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def stop(self) -> None:
        """Cancel what runs, end the daemons by their pid files, and remove the folder."""
        if (self.folder / "slurmctld.pid").exists():
            for command in (["scancel", "--partition=low"], ["scancel", "--partition=high"]):
                subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, timeout=60)
        for daemon in ("slurmd", "slurmctld", "munged"):
            _end(self.folder / f"{daemon}.pid")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        folder, host = self.folder, socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        (folder / "slurm.conf").write_text(
            SLURM_CONF.format(folder=folder, host=host, user=user, ports=_free_ports(2), cores=CORES)
        )
        # Two devices that every machine has stand for GPUs: Slurm hands out their numbers, nobody opens them.
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        # 0755: slurmd and munge's clients must get through, and munged checks that nobody else may write.
        folder.chmod(0o755)
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        # --force: a world-writable /tmp above the folder is a warning, not an error.
        self._daemon("munged", "--force", *(f"--{option}={folder / name}" for option, name in files.items()))
        self._daemon("slurmctld", "-f", str(folder / "slurm.conf"))
        self._daemon("slurmd", "-f", str(folder / "slurm.conf"))
        self._wait_idle()

    def _daemon(self, name: str, *options: str) -> None:
        done = subprocess.run(
            [_program(name), *options],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name} did not start: {(done.stderr or done.stdout).strip()}\n{self._logs()}")

    def _wait_idle(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.command("sinfo", "--noheader", "--format=%T", "--partition=low") == "idle":
                    return
            except RuntimeError:  # slurmctld does not answer yet
                pass
            time.sleep(0.3)
        raise RuntimeError(f"the node was not idle after {seconds:g} seconds\n{self._logs()}")

    def _logs(self) -> str:
        tails = []
        for name in ("munged", "slurmctld", "slurmd"):
            log = self.folder / f"{name}.log"
            if log.exists():
                tails.append(f"-- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        return "\n".join(tails)


def _program(name: str) -> str | None:
    # The daemons are in sbin, which is not on everybody's path.
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _end(pid_file: Path, seconds: float = 1.5) -> None:
    """Ask the daemon to end, then force it: what it would still save is thrown away anyway."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return
    for how, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 2.0)):
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.05)
