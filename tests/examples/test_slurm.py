"""examples/slurm.sh: a script that shellcheck passes, whose command torchrun and fastcifar take."""

import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sh"
# What SLURM sets and does on one machine of two GPUs: scontrol lists the hosts, srun runs the command on each.
JOB = """
scontrol() { echo localhost; }
srun() { printf '%s\\n' "$@"; }
export SLURM_JOB_NODELIST=localhost SLURM_JOB_NUM_NODES=1 SLURM_JOB_ID=7 SLURM_GPUS_ON_NODE=2 SLURM_CPUS_PER_TASK=16
set -- --recipe seed --out "runs/a b"
. "$SCRIPT"
bash -c 'echo "$OMP_NUM_THREADS"; echo "$TORCH_DISABLE_SHARE_RDZV_TCP_STORE"'
"""


def test_shellcheck_finds_nothing() -> None:
    found = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert found
    done = subprocess.run([found, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_command_it_comes_to() -> None:
    done = subprocess.run(["bash", "-c", JOB], env={"SCRIPT": str(SCRIPT)}, capture_output=True, text=True, check=True)
    *command, threads, apart = done.stdout.splitlines()
    assert command[:3] == ["python", "-m", "torch.distributed.run"]
    assert command[-7:] == ["-m", "fastcifar", "train", "--recipe", "seed", "--out", "runs/a b"]
    assert command[command.index("--nproc-per-node") + 1] == "2"
    assert command[command.index("--rdzv-endpoint") + 1] == "localhost:29500"
    assert (threads, apart) == ("8", "1")
