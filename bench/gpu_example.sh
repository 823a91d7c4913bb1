#!/bin/sh
# The examples on real data within minutes on one GPU, from a checkout:
#   sh bench/gpu_example.sh OUTPUT WORK [--mps] [options of examples/run_within.py]
# WORK holds what the plans name (examples/*/README.md). OUTPUT gets the log, one archive with
# tables, reports and plans, and archives with all predictions (no weights).
# --mps: under NVIDIA's multi-process service, which is started and ended here, so that kernels of
# several trainings run at once. No setting of the card is changed.
set -u
root=$PWD
mkdir -p "${1:?usage: sh bench/gpu_example.sh OUTPUT WORK [options]}" && out=$(cd "$1" && pwd)
work=${2:?usage: sh bench/gpu_example.sh OUTPUT WORK [options]}
shift 2
mps=
if [ "${1:-}" = --mps ]; then mps=1; shift; fi
cd "$work" || exit 2
if [ -n "$mps" ]; then
    export CUDA_MPS_PIPE_DIRECTORY="$PWD/mps" CUDA_MPS_LOG_DIRECTORY="$PWD/mps/log"
    mkdir -p mps/log
    nvidia-cuda-mps-control -d || { unset CUDA_MPS_PIPE_DIRECTORY; mps=; echo "no MPS here"; }
fi
"${PYTHON:-python3}" -u "$root/examples/run_within.py" results "$@" 2>&1 |
    tee results.log
[ -n "$mps" ] && echo quit | nvidia-cuda-mps-control
cp results.log "$out/log.txt"
tar cJf "$out/results.tar.xz" --exclude='store_*' results
for n in 1 2 3 4 5 6; do
    [ -f "results/store_$n.tar.xz" ] && mv "results/store_$n.tar.xz" "$out"
done
ls -l "$out"
