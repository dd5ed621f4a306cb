#!/usr/bin/env bash
# Fashion-MNIST, ResNet-8, three seeds, equal epochs: float, the paper's recipe, ours. About 2.5 minutes a run on one core.
# FASHION_MNIST is a folder with the four IDX files; run from the checkout, results go to OUT.
set -euo pipefail
FASHION_MNIST=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
OUT=${OUT:-demo/training}
mkdir -p "$OUT"
train() {
    name=$1
    shift
    python -m codeq.train --model resnet8 --data "idx:$FASHION_MNIST" --epochs 6 --batch-size 128 --autocast bfloat16 \
        --threads 1 -o "$OUT/$name.pt" --log "$OUT/$name.jsonl" --force "$@" 2>&1 | tee "$OUT/$name.txt"
}
for seed in 0 1 2; do
    train "float-s$seed" --seed $seed --bits 32
    train "paper-4bit-s$seed" --seed $seed --recipe paper --bits 4
    train "ours-4bit-s$seed" --seed $seed --bits 4 --bops 0.035 --teacher "$OUT/float-s$seed.pt"
    train "ours-4bit-alone-s$seed" --seed $seed --bits 4 --bops 0.035
    train "paper-mixed-s$seed" --seed $seed --recipe paper --bits mixed
    train "ours-mixed-s$seed" --seed $seed --bits mixed --bops 0.04 --teacher "$OUT/float-s$seed.pt"
done
