#!/usr/bin/env bash
# The exact commands behind docs/results/headline.md; about two hours on two cores.
# Every step goes on where it was ended; policies that are there are not trained again.
set -euo pipefail
cd "$(dirname "$0")/../.."
# numpy's own threads wait for one another longer than they save
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
train() {
  local out="runs/policies/${name:-$1}-$2"
  [ -f "$out/policy.json" ] || coinfer train --scenario "$1" --seed "$2" --out "$out" "${@:3}"
}
for seed in 0 1 2 3 4; do
  for scenario in camera lte-mobilenet 3g-mobilenet 3g-alexnet edgent; do train "$scenario" "$seed"; done
  # one policy for all prices up to four times those of the headline
  for scenario in lte-mobilenet 3g-mobilenet; do
    name="$scenario-priced" train "$scenario" "$seed" --device-second 0.5 --megabyte 3 \
      --most-device-second 2 --most-megabyte 12 --validation-frames 1500
  done
done
coinfer evaluate experiments/studies/headline.toml --out runs/headline
coinfer report --results runs/headline --out runs/report.html --markdown docs/results/headline.md --front docs/pictures/front.png
