#!/usr/bin/env bash
# Everything that README says of compression without training and of training for the same targets, in one run.
#     bash docs/results/2026-11-28-compress-all/all.sh IMAGES CIFAR FLOAT OUT [AIEDGE_PYTHON NNCF_PYTHON]
# IMAGES: a folder of ImageNet images, one folder for each class. CIFAR: the binary version of CIFAR-10. FLOAT: weights of
# a ResNet-20 that was trained on it. The last two are Pythons of environments that peers.py describes; without them its
# table is left out. A part whose log ends in "done" is not run again, so that an interrupted run goes on.
set -euo pipefail
images=$1 cifar=$2 float=$3 out=$4 aiedge=${5-} nncf=${6-}
here=docs/results
mkdir -p "$out"
{ git rev-parse HEAD; python --version; python -m pip list --format freeze; grep -m1 'model name' /proc/cpuinfo; nproc; } > "$out/about.txt"
part() {
    name=$1
    shift
    [ -e "$out/$name.log" ] && [ "$(tail -n 1 "$out/$name.log")" = done ] && return
    echo "$name: $*" >&2
    { echo "$*"; time "$@"; echo done; } > "$out/$name.log" 2>&1
}
export OMP_NUM_THREADS=1
# EfficientNet-Lite0: 8, 4 and 3 bits; what 8 bits take; zeros with and without distillation; peers; networks of every kind
images_parts() {
    part efficientnet python $here/2026-11-26-compress/efficientnet_lite0.py "$images" "$out/efficientnet"
    part eight-bits python $here/2026-11-28-compress-all/eight_bits.py "$images" "$out/eight-bits"
    part zeros python $here/2026-11-27-distillation/efficientnet_lite0.py "$images" "$out/zeros" 0 0.2 0.4 0.6
    if [ -n "$aiedge" ]; then part peers python $here/2026-11-27-peers/peers.py "$images" "$out/peers" "$aiedge" "$nncf"; fi
    part networks python $here/2026-11-27-peers/networks.py "$out/networks"
}
# ResNet-20: the float network on these images, CoDeQ trained for every target, and every method for the same
cifar_parts() {
    part float python -m codeq.train --model resnet20 --data "cifar10:$cifar" --bits 32 --init "$float" --epochs 6 --batch-size 128 \
        --lr 0.02 -o "$out/float.pt"
    part trained bash $here/2026-11-28-trained/train.sh "$cifar" "$out/float.pt" "$out/trained" 4-75 2-0 3-75 2-50 4-0 4-50 3-0 3-50 8-75 \
        8-50 8-0 2-75 hour
    part judged bash -c 'python "$@"' - $here/2026-11-27-methods/files.py "$cifar" "$out/float.pt" "$out/judged" "$out"/trained/*.pt
    part methods python $here/2026-11-27-methods/files.py "$cifar" "$out/float.pt" "$out/methods"
}
images_parts & # one core each
first=$!
cifar_parts
wait "$first"
