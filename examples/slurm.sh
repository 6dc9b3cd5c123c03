#!/usr/bin/env bash
# One network on all GPUs of some machines, by SLURM: sbatch examples/slurm.sh --recipe seed --out runs/large
# A file system that all machines see holds the checkout, the images ($FASTCIFAR_DATA) and the run directory. A machine
# that fails ends the others' processes; they are started again up to three times, and with --out go on from the last
# checkpoint. Given again after the time is up, the job goes on with --resume RUN in place of --out RUN.
#SBATCH --job-name=fastcifar
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=00:30:00
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
gpus=${SLURM_GPUS_ON_NODE:-8}
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / gpus))
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # else the others ask a lost machine for each other's addresses

srun python -m torch.distributed.run \
    --nnodes "$SLURM_JOB_NUM_NODES" \
    --nproc-per-node "$gpus" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$first:29500" \
    --max-restarts 3 \
    -m fastcifar train "$@"
