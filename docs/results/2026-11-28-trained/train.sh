#!/usr/bin/env bash
# ResNet-20 on CIFAR-10 (JPEG copies), trained by CoDeQ from the float network for every target of the table of files.
#     bash train.sh CIFAR FLOAT OUT [NAME ...]
# CIFAR is the folder of the binary version, FLOAT the float checkpoint. What is in OUT already is left alone; an
# interrupted run goes on. Names: BITS-ZEROS, or hour for 4 bits and 75 % zeros in twelve epochs.
set -euo pipefail
cifar=$1 float=$2 out=$3
shift 3
mkdir -p "$out"
train() {
    name=codeq-$1 epochs=$2
    shift 2
    grep -qs ' written, log ' "$out/$name.log" && return
    if [ -e "$out/$name.pt" ]; then
        python -m codeq.train --resume "$out/$name.pt" --threads 1 >> "$out/$name.log" 2>&1 || true
        return
    fi
    python -m codeq.train --model resnet20 --data "cifar10:$cifar" --epochs "$epochs" --batch-size 128 --lr 0.05 \
        --threads 1 --compile model --granularity channel --init "$float" --teacher "$float" \
        --log "$out/$name.jsonl" -o "$out/$name.pt" "$@" > "$out/$name.log" 2>&1 || true
}
for target in "${@:-4-75 2-0 3-75 2-50 4-0 4-50 3-0 3-50 8-75 8-50 8-0 2-75}"; do
    for name in $target; do
        case $name in
            hour) train 4-75-hour 12 --bits 4 --sparsity 0.75 ;;
            2-75) train 2-75 4 --bits 2 --sparsity 0.75 ;; # two epochs reach 72.7 %
            *-0) train "$name" 2 --bits "${name%-*}" --lambda-dz 0 ;;
            *) train "$name" 2 --bits "${name%-*}" --sparsity "0.${name#*-}" ;;
        esac
    done
done
