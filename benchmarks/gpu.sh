#!/bin/bash
# A quarter of an hour on a bare GPU machine: benchmarks/gpu.sh OUT [SECONDS] [STAGE ...], from the checkout's root.
#
# Stages, in this order where none is named; one that fails does not stop the next:
#   compile  what the next three need, side by side, which one after the other takes several times as long; at most 200 s
#   parity   values and gradients against those stored by benchmarks/gpu_pack.py; at most 120 s
#   speed    rows of benchmarks/speed.py; at most 150 s
#   kernels  what the steps and a fused picture are made of, by benchmarks/kernels.py; at most 60 s
#   train    all four tasks by the documented command, side by side, until SECONDS (540) are over
# OUT gets gpu.log (everything printed), TASK.tar.gz of each task, renewed every minute (settings, pairs, records, newest
# and best checkpoint), and xla.tar.gz, the compiled functions.
# A later call goes on from what came back: put those files into PACK/back first.
#
# PACK (build/gpu): what gpu_pack.py wrote, wheels beside it. RUNS (build/gpu-runs): where the trainings are. PYTHON
# (python3). For a rehearsal on a CPU: SPEED, KERNELS, TRAIN: other options of speed.py, other work of kernels.py, further
# options of train.py; SLOW: a factor on the limits.

out=$1 seconds=${2:-540} && shift && shift
stages=${*:-compile parity speed kernels train}
[ -n "$out" ] || { echo "expected benchmarks/gpu.sh OUT [SECONDS] [STAGE ...]"; exit 2; }
end=$((SECONDS + seconds))
pack=${PACK:-build/gpu} runs=$(realpath -m "${RUNS:-build/gpu-runs}") python=${PYTHON:-python3}
mkdir -p "$out" "$runs/packs"
exec > >(tee -a "$out/gpu.log") 2>&1

export PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$runs/xla}
mkdir -p "$JAX_COMPILATION_CACHE_DIR"
if [ -d "$pack/wheels" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$runs/site" "$pack"/wheels/*.whl
    export PYTHONPATH=$runs/site${PYTHONPATH:+:$PYTHONPATH}
fi
[ -f "$pack/back/xla.tar.gz" ] && tar xzf "$pack/back/xla.tar.gz" -C "$JAX_COMPILATION_CACHE_DIR"

# stage NAME LIMIT COMMAND...: its output and how it ended; SIGTERM at the limit, SIGKILL 20 s later.
stage() {
    local name=$1 limit=$2 begun=$SECONDS; shift 2
    echo; echo "== $name"
    timeout --kill-after=20 $((limit * ${SLOW:-1})) "$@"
    echo "== $name: exit status $? after $((SECONDS - begun)) s"
}

speed=${SPEED:---only fuse train --runs 1 --repeat 20}
kernels=${KERNELS:-fuse:480x640 fuse:1024x1024 fusion:128x10 meta:128x10 fusion-bfloat16:128x10 fusion:64x10}

compile_all() {
    "$python" benchmarks/gpu_parity.py "$pack/parity.npz" >/dev/null &
    local work
    case $speed in *fuse*) "$python" benchmarks/speed.py --only fuse --runs 1 --repeat 1 >/dev/null & esac
    case $speed in *train*)
        for work in fusion meta; do "$python" benchmarks/speed.py --measure train $work --repeat 1 >/dev/null & done ;;
    esac
    for work in $kernels; do "$python" benchmarks/kernels.py --once "$work" & done
    wait
}
export -f compile_all
export python pack speed kernels

# What a later call and the table of results need of a run, as one file that is whole at any moment.
pack_run() {
    local task=$1 run=$runs/$1 newest
    newest=$(ls "$run/checkpoints" 2>/dev/null | grep -E '^[0-9]+$' | sort -n | tail -1)
    [ -n "$newest" ] || return
    tar czf "$runs/packs/$task.tmp" -C "$runs" "$task/config.toml" "$task/pairs.json" "$task/metrics.jsonl" "$task/log.txt" \
        "$task/checkpoints/$newest" $(cd "$runs" && ls -d "$task/best" 2>/dev/null) 2>/dev/null
    [ $? -le 1 ] && mv "$runs/packs/$task.tmp" "$out/$task.tar.gz"  # 1: a file grew meanwhile
}

train_all() {
    local left=$((end - SECONDS - 40)) tasks=() pids=() task run  # 40 s for last checkpoints and packing
    [ $left -ge 30 ] || { echo "too little time is left to train"; return 1; }
    local minutes=$((left / 60)).$(printf %02d $((left % 60 * 100 / 60)))
    for task in ivif mif mfif meie; do
        run=$runs/$task
        [ -d "$run" ] || [ ! -f "$pack/back/$task.tar.gz" ] || tar xzf "$pack/back/$task.tar.gz" -C "$runs"
        local options=(--task "$task" --preset tuned --data "$pack/pairs/$task/pairs.csv" --seed 0
            --set checkpoint.every_minutes=1)
        if ls "$run"/checkpoints/*/ >/dev/null 2>&1; then options+=(--resume); else rm -rf "$run"; options+=($TRAIN); fi
        options+=(--out "$run" --max-minutes "$minutes")
        echo "train.py ${options[*]}"
        timeout --kill-after=20 $((left + 15)) "$python" train.py "${options[@]}" >>"$runs/$task.txt" 2>&1 &
        pids+=($!) tasks+=("$task")
    done
    local again=$((SECONDS + 60)) failed=0
    while [ -n "$(jobs -pr)" ]; do
        sleep 2
        [ $SECONDS -lt $again ] || { again=$((SECONDS + 60)); for task in "${tasks[@]}"; do keep "$task"; done; }
    done
    for i in "${!pids[@]}"; do
        wait "${pids[i]}"; local status=$?
        [ $status = 0 ] || failed=1
        keep "${tasks[i]}"
        echo "-- ${tasks[i]}: exit status $status"; tr "\r" "\n" <"$runs/${tasks[i]}.txt" | tail -n 12
    done
    return $failed
}
keep() { [ -d "$runs/$1" ] && cp "$runs/$1.txt" "$runs/$1/log.txt" && pack_run "$1"; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no NVIDIA GPU"
"$python" -c 'import jax, flax, optax, orbax.checkpoint, grain, sys, numpy
print("Python", sys.version.split()[0], *(f"{m.__name__} {m.__version__}" for m in (jax, flax, optax, grain, numpy) if hasattr(m, "__version__")), jax.devices())'
for name in $stages; do
    case $name in
        compile) stage compile 200 bash -c compile_all ;;
        parity) stage parity 120 "$python" benchmarks/gpu_parity.py "$pack/parity.npz" ;;
        speed) stage speed 150 "$python" benchmarks/speed.py $speed ;;
        kernels) stage kernels 60 "$python" benchmarks/kernels.py $kernels ;;
        train)
            begun=$SECONDS; echo; echo "== train"
            train_all; echo "== train: exit status $? after $((SECONDS - begun)) s" ;;
        *) echo "no stage is called $name; there are compile, parity, speed, kernels, train" ;;
    esac
done
tar czf "$out/xla.tar.gz" -C "$JAX_COMPILATION_CACHE_DIR" .
ls -l "$out"
