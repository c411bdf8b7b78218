#!/usr/bin/env bash
# The exact commands behind the tables of learned policies in the README; about an hour on two cores.
# Every step goes on where it was ended; policies that are there are not trained again.
set -euo pipefail
cd "$(dirname "$0")/../.."
for scenario in lte-mobilenet 3g-mobilenet lte-mobilenet-priced 3g-mobilenet-priced 3g-alexnet edgent; do
  for seed in 0 1 2 3 4; do
    out="runs/policies/$scenario-$seed"
    [ -f "$out/policy.json" ] || coinfer train --scenario "$scenario" --frames 1000000 --seed "$seed" --out "$out"
  done
done
coinfer evaluate experiments/studies/headline.toml --out runs/headline
coinfer report --results runs/headline --out runs/report.html --markdown runs/table.md --front docs/front.png
