#!/usr/bin/env bash
# ResNet-20 on CIFAR-10 (JPEG copies), trained by CoDeQ from the float network for targets of the table of files: about 5
# minutes for two epochs on one quiet core. CIFAR is the folder of the binary version, float.pt as files.py says.
set -euo pipefail
mkdir -p trained
train() {
    name=$1
    epochs=$2
    shift 2
    python -m codeq.train --model resnet20 --data "cifar10:$CIFAR" --epochs "$epochs" --batch-size 128 --lr 0.05 --threads 1 \
        --autocast bfloat16 --granularity channel --init float.pt --teacher float.pt --log "trained/$name.jsonl" \
        -o "trained/$name.pt" "$@"
}
train codeq-4-75 2 --bits 4 --sparsity 0.75
train codeq-3-50 2 --bits 3 --sparsity 0.5
train codeq-4-75-long 6 --bits 4 --sparsity 0.75
train codeq-2-75 2 --bits 2 --sparsity 0.75
