#!/usr/bin/env bash
# Networks of the registry trained briefly on scikit-learn's digits, exported in both modes and every storage, each file held to the
# parity contract on all test images. Run in the checkout, its .venv active: bash docs/results/2026-11-25-zoo/trained.sh FOLDER [NETWORK...]
# MobileNets, which halve their input five times, get the digits enlarged to 48 x 48 pixels, as an image folder, and start from
# their float twins, which teach them.
set -euo pipefail
folder=$1
shift
networks=(${@:-resnet8 resnet20 resnet18 resnet50 ds_cnn tiny_vit mobilenet_v1 mobilenet_v2})
mkdir -p "$folder"
python - "$folder/images" << 'PYTHON'
import sys
from pathlib import Path

import torch
from PIL import Image

from codeq.data import load_dataset

data = load_dataset("digits", shift=0, flip=False)
for name, split in (("train", data.train), ("val", data.test)):
    images = split.load(torch.arange(len(split)))
    shades = ((images - images.min()) / (images.max() - images.min()) * 255).byte()
    for index, (image, label) in enumerate(zip(shades, split.labels, strict=True)):
        path = Path(sys.argv[1], name, str(int(label)), f"{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).resize((48, 48), Image.Resampling.BICUBIC).convert("RGB").save(path)
PYTHON
for network in "${networks[@]}"; do
    data=(--data digits) train=(--epochs 10)
    case $network in
        mobilenet*)
            data=(--data "images:$folder/images")
            size=(--epochs 20 --input-size 48 --no-flip)
            python -m codeq.train --model $network "${data[@]}" "${size[@]}" --bits 32 --threads 1 -o "$folder/$network-float.pt" --force \
                > "$folder/$network-float.txt" 2>&1
            echo "$network, float: $(grep "^test accuracy" "$folder/$network-float.txt")"
            train=("${size[@]}" --init "$folder/$network-float.pt" --teacher "$folder/$network-float.pt")
            ;;
        tiny_vit) train=(--epochs 20 --optimizer adamw --lr 1e-3) ;;
    esac
    python -m codeq.train --model $network "${data[@]}" "${train[@]}" --sparsity 0.8 --threads 1 -o "$folder/$network.pt" --force \
        > "$folder/$network.txt" 2>&1
    echo "$network: $(grep "^test accuracy" "$folder/$network.txt")"
    for activations in float32 int8; do
        for storage in auto sparse packed; do
            file="$folder/$network-$activations-$storage"
            python -m export.onnx "$folder/$network.pt" -o "$file.onnx" --activations $activations --storage $storage --force > "$file.txt" 2>&1
            python -m runtime_tests.parity "$folder/$network.pt" "$file.onnx" "${data[@]}" --count 359 > "$file-parity.txt" 2> /dev/null || true
            echo "$network $activations $storage: $(stat -c %s "$file.onnx") bytes, $(grep -E "^parity " "$file-parity.txt"), $(grep "^accuracy" "$file-parity.txt")"
        done
    done
done
