#!/usr/bin/env bash
# The exact commands behind the tables of learned policies in the README; about an hour on two cores.
# Every step goes on where it was ended; policies that are there are not trained again.
set -euo pipefail
cd "$(dirname "$0")/../.."
train() {
  local out="runs/policies/$1-$2"
  [ -f "$out/policy.json" ] || coinfer train --scenario "$1" --frames 1000000 --seed "$2" --out "$out"
}
for scenario in lte-mobilenet 3g-mobilenet lte-mobilenet-priced 3g-mobilenet-priced; do
  for seed in 0 1 2 3 4; do train "$scenario" "$seed"; done
done
for scenario in 3g-alexnet edgent; do
  for seed in 0 1 2; do train "$scenario" "$seed"; done
done
coinfer evaluate experiments/studies/headline.toml --out runs/headline
coinfer report --results runs/headline --out runs/report.html --markdown runs/table.md --front docs/front.png
