#!/usr/bin/env bash
# Measures a GPU in a quarter of an hour, beside what is expected (docs/gpu-first-run.md).
#
#   benchmarks/gpu_first_run.sh first     at most 480 s
#   benchmarks/gpu_first_run.sh second    at most 270 s
#   benchmarks/gpu_first_run.sh STEP ...  some steps alone
#
# The table is $OUT/gpu_first_run.md (default of OUT: results/gpu-first-run). PYTHON names the interpreter;
# DEVICE=cpu SIZE=tiny LIMIT=300 tries the script itself, each step for at most 300 s. If a step fails or runs
# over its time, the next steps still run.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH=scripts${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1
python=${PYTHON:-python3} device=${DEVICE:-cuda} size=${SIZE:-full} out=${OUT:-results/gpu-first-run}
table=$out/gpu_first_run.md
mkdir -p "$out"

limited() { # STEP SECONDS COMMAND...: run the command, printing to $log if that is set; report a failure
    local name=$1 seconds=${LIMIT:-$2} began=$SECONDS status=0
    timeout --kill-after=5 "$seconds" "${@:3}" >>"${log:-/dev/stdout}" 2>&1 || status=$?
    case $status in
    0) echo "$name: $((SECONDS - began)) s" ;;
    124 | 137) echo "| $name | stopped | over its $seconds s | |" | tee -a "$table" ;;
    *) echo "| $name | failed | exit code $status after $((SECONDS - began)) s | |" | tee -a "$table" ;;
    esac
}

train() { # STEP SECONDS: a task of gpu_training.py
    limited "$1" "$2" "$python" benchmarks/gpu_training.py --task "$1" --folder "$out" --table "$table" \
        --device "$device" --size "$size"
}

systems() { # MICRO-BATCH SECONDS: benchmarks/training.py with the systems there are, and its rows
    local shape=(--shape 125m --steps 8 --warm-up-steps 3) printed=$out/systems-$1.log
    local systems=(ours-compiled hf-trainer-checkpointing ours-checkpointing ours-zero3-offload-checkpointing)
    [ "$1" = 16 ] && systems=(ours-compiled hf-trainer ours-liger ours-ddp "${systems[@]:1}") # others need more memory
    [ "$size" = tiny ] && shape=(--shape small --sequence-length 32 --steps 1) systems=(ours-ddp)
    if ! "$python" -c "import pydantic" 2>/dev/null; then
        echo "| systems-$1 | skipped | pydantic isn't installed | |" | tee -a "$table"
        return
    fi
    log=$printed limited "systems-$1" "$2" "$python" benchmarks/training.py --device "$device" --micro-batch "$1" \
        "${shape[@]}" --systems "${systems[@]}" --no-logits --repeats 1 --table "$out/systems-$1.csv"
    limited "systems-$1" 10 "$python" benchmarks/gpu_training.py --task systems --folder "$out" --table "$table" \
        --printed "$printed" --micro-batch "$1" --size "$size"
}

step() {
    case $1 in
    probe) limited probe 30 "$python" benchmarks/gpu_probe.py --table "$table" --device "$device" --size "$size" ;;
    systems-*) systems "${1#systems-}" 215 ;;
    compiled) train compiled 68 ;;
    interrupted) train interrupted 62 ;;
    fsdp) train fsdp 38 ;;
    profile) train profile 30 ;;
    deepspeed) train deepspeed 70 ;;
    first) for each in probe systems-16 systems-80; do step "$each"; done ;;
    second)
        # Compiling DeepSpeed's optimizer takes about a minute on the CPU, so it runs beside the other steps.
        [ "$device" = cuda ] && "$python" -c "$COMPILE" >"$out/optimizer.log" 2>&1 &
        for each in compiled interrupted fsdp profile deepspeed; do step "$each"; done
        ;;
    *) echo "$1: no such step" >&2 && return 2 ;;
    esac
}

COMPILE="from cpt.train.deepspeed_engine import compile_cpu_adam; compile_cpu_adam()"
for each in "${@:-first}"; do step "$each"; done
