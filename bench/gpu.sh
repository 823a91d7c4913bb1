#!/bin/sh
# The three benchmarks that have a GPU form, from the root of a checkout without an installation:
#   sh bench/gpu.sh [FOLDER for the .json files] [further options of every script]
set -e
out=${1:-.}
[ $# -gt 0 ] && shift
export PYTHONPATH="$PWD:$PWD/tasks:$PWD/hooks${PYTHONPATH:+:$PYTHONPATH}"
python3 bench/step.py --device cuda --rows 4096 --output "$out/step-cuda.json" "$@"
python3 bench/distill.py --device cuda --rows 8192 --eval-batch-size 256 --output "$out/distill-cuda.json" "$@"
python3 bench/evaluate.py --device cuda --rows 16384 --batch-size 256 --output "$out/evaluate-cuda.json" "$@"
