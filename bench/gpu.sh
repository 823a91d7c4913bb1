#!/bin/sh
# Everything that is measured on one GPU, from the root of a checkout without an installation:
#   sh bench/gpu.sh FOLDER [--only PART …] [--budget SECONDS]    --tiny: on the CPU, does it run?
# Writes FOLDER/gpu.json, FOLDER/gpu.md and FOLDER/gpu_tests.log; see bench/README.md.
out=${1:?usage: sh bench/gpu.sh FOLDER [options of bench/gpu.py]}
shift
export PYTHONPATH="$PWD:$PWD/tasks:$PWD/hooks${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -u bench/gpu.py --output "$out" "$@"
