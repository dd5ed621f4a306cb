#!/usr/bin/env bash
# Where budgets land: ResNet-8 on digits, 30 epochs, from the usual start and from dead zones that are wide at once, with two
# optimizers. About 15 s a run.
set -euo pipefail
OUT=${OUT:-demo/training}
mkdir -p "$OUT"
for target in "--sparsity 0.5" "--sparsity 0.8" "--sparsity 0.95" "--bops 0.02" "--bops 0.04" "--bops 0.08" "--size 8kB" \
    "--size 14kB" "--bits mixed --bops 0.02" "--bits mixed --size 10kB"; do
    for start in "" "--theta-init 0.6" "--optimizer adamw"; do
        # A missed budget is exit code 1, and a result like any other.
        # shellcheck disable=SC2086  # options, meant to be split
        line=$({ python -m codeq.train --epochs 30 --threads 1 $target $start -o "$OUT/budget.pt" --force 2>/dev/null || [ $? = 1 ]; } \
            | grep -E "^(test accuracy|budget)" | tr '\n' ' ')
        printf '%-28s %-20s %s\n' "$target" "$start" "$line"
    done
done
