#!/usr/bin/env bash
# Fashion-MNIST, ResNet-20: the float twin, then 4 bits and mixed precision, which start from its weights and learn from it.
# About 8 minutes a run on one core.
set -euo pipefail
FASHION_MNIST=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
OUT=${OUT:-demo/training}
mkdir -p "$OUT"
train() {
    name=$1
    shift
    python -m codeq.train --model resnet20 --data "idx:$FASHION_MNIST" --epochs 6 --batch-size 128 --autocast bfloat16 \
        --threads 1 -o "$OUT/$name.pt" --log "$OUT/$name.jsonl" --force "$@" 2>&1 | tee "$OUT/$name.txt"
}
train resnet20-float --bits 32
twin="--init $OUT/resnet20-float.pt --teacher $OUT/resnet20-float.pt --lr 0.05"
# shellcheck disable=SC2086  # options, meant to be split
train resnet20-4bit --bits 4 --bops 0.029 $twin
# shellcheck disable=SC2086
train resnet20-mixed --bits mixed --bops 0.026 $twin
