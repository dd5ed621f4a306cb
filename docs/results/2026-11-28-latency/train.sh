#!/usr/bin/env bash
# ResNet-20 on CIFAR-10 (JPEG copies), 8 bits: channels that die for shares of the dense int8 file's latency in LiteRT,
# the dense network, and narrower ones from scratch, all taught by the float network.
#     bash train.sh CIFAR FLOAT TIMES OUT NAME ...        # dense, channels-0.65, width-0.5
# TIMES is a table of runtime_tests.kernel_times. What is in OUT already is left alone; an interrupted run goes on.
# channels-S: two epochs in which channels die and eight of what is left (shrunken.py), at that network's own pace.
set -euo pipefail
cifar=$1 float=$2 times=$3 out=$4
shift 4
export PYTHONPATH=$PYTHONPATH:$PWD/docs/results/2026-11-28-latency
mkdir -p "$out"
train() { # NAME EPOCHS OPTION ...: one run of codeq.train, which is gone on with where it was stopped
    local name=$1 epochs=$2
    shift 2
    grep -qs ' written, log ' "$out/$name.log" && return
    local common=(--data "cifar10:$cifar" --bits 8 --epochs "$epochs" --batch-size 128 --lambda-dz 0 --granularity channel --compile model
        --teacher "$float" --log "$out/$name.jsonl" -o "$out/$name.pt")
    if [ -e "$out/$name.pt" ]; then common=(--resume "$out/$name.pt" --teacher "$float"); fi
    python -m codeq.train --threads 1 "$@" "${common[@]}" >> "$out/$name.log" 2>&1
}
for name in "$@"; do
    amount=${name#*-}
    case $name in
        dense) train dense 10 --model resnet20 --init "$float" --lr 0.02 ;;
        width-*) train "$name" 20 --model models:resnet20 --model-args "{\"width\": $amount}" --lr 0.1 ;;
        channels-*)
            train "$name-chosen" 2 --model resnet20 --init "$float" --lr 0.02 --latency "$amount" --kernel-times "$times"
            train "$name" 8 --model shrunken:build --model-args "{\"checkpoint\": \"$out/$name-chosen.pt\"}" --lr 0.05
            ;;
    esac
done
