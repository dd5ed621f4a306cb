#!/usr/bin/env bash
# ResNet-20 on CIFAR-10 (JPEG copies) from the float network, for shares of the dense int8 file's latency in LiteRT.
#     bash train.sh CIFAR FLOAT TIMES OUT [SHARE ...]
# TIMES is a table of runtime_tests.kernel_times. What is in OUT already is left alone; an interrupted run goes on.
set -euo pipefail
cifar=$1 float=$2 times=$3 out=$4
shift 4
mkdir -p "$out"
for share in "${@:-1 0.8 0.65 0.5 0.35}"; do
    for name in $share; do
        grep -qs ' written, log ' "$out/$name.log" && continue
        target=(--latency "$name" --kernel-times "$times")
        [ "$name" = 1 ] && target=(--lambda-dz 0) # the dense one
        [ -e "$out/$name.pt" ] && target=(--resume "$out/$name.pt")
        [ -e "$out/$name.pt" ] || target+=(--model resnet20 --data "cifar10:$cifar" --bits 8 --epochs 4 --batch-size 128 --lr 0.05
            --compile model --granularity channel --init "$float" --teacher "$float" --log "$out/$name.jsonl" -o "$out/$name.pt")
        python -m codeq.train --threads 1 "${target[@]}" >> "$out/$name.log" 2>&1 || true
    done
done
