#!/usr/bin/env bash
# Beyond the headline: the generalist, other prices, other traces, every log left out once, what each
# part of the policy is worth, which algorithm learns it, what limits it. After headline.sh; about
# two hours more.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
data="${COINFER_DATA:-../shared/data}/traces"
there() { [ -f "$1/policy.json" ]; }

# the shipped generalist is `coinfer train-generalist --out controller/policies/shipped/generalist`
prices=(--device-second 0.5 --megabyte 3)
for scenario in lte-mobilenet 3g-mobilenet 3g-alexnet edgent; do
  there "runs/policies/generalist-$scenario" ||
    coinfer adapt --scenario "$scenario" --out "runs/policies/generalist-$scenario"
done
for scenario in lte-mobilenet 3g-mobilenet; do
  there "runs/policies/generalist-$scenario-priced" ||
    coinfer adapt --scenario "$scenario" "${prices[@]}" --out "runs/policies/generalist-$scenario-priced"
done
there runs/policies/generalist-unseen ||
  coinfer adapt --scenario experiments/studies/scenarios/unseen.toml --out runs/policies/generalist-unseen

# traces to train and to test on, beside the two splits: no session of Oboe's is in both, of the two
# packet-delivery traces one is for each, generated ones differ by their seeds
if [ ! -f runs/traces/.made ]; then
  mkdir -p runs/traces/{belgium,oboe,generated,mahimahi}-train runs/traces/{oboe,generated,mahimahi}-test
  for file in $(python -c 'from traces.library import read_split
print(*(f.file for f in read_split("belgium").train))'); do
    ln -sf "$(realpath "$data/belgium_4g/$file")" runs/traces/belgium-train/
  done
  number=0
  for file in "$data"/oboe/*; do
    if (( number % 18 == 0 )); then ln -sf "$(realpath "$file")" runs/traces/oboe-test/
    elif (( number % 6 == 1 )); then ln -sf "$(realpath "$file")" runs/traces/oboe-train/; fi
    number=$((number + 1))
  done
  ln -sf "$(realpath "$data/mahimahi/Verizon-LTE-short.down")" runs/traces/mahimahi-train/
  ln -sf "$(realpath "$data/mahimahi/Verizon-LTE-short.up")" runs/traces/mahimahi-test/
  seed=0
  for mode in bicycle bus car foot train tram; do
    for part in train train train test; do
      seed=$((seed + 1))
      coinfer traces generate --family belgium --mode "$mode" --seed "$seed" \
        --out "runs/traces/generated-$part/$mode-$seed.csv"
    done
  done
  touch runs/traces/.made
fi
for seed in 0 1 2; do
  for on in belgium:0.1 generated:0.1 oboe:1 mahimahi:1; do
    out="runs/policies/on-${on%:*}-$seed"
    there "$out" || coinfer train --scenario 3g-mobilenet --traces "runs/traces/${on%:*}-train" \
      --scale "${on#*:}" --seed "$seed" --out "$out"
  done
done
# every Belgium test log left out once: trained on all others, the validation logs aside
for log in $(python -c 'from traces.library import read_split
print(*(f.file.removesuffix(".log") for f in read_split("belgium").test))'); do
  out="runs/policies/without-$log"
  there "$out" || coinfer train --scenario lte-mobilenet --leave-out "$log" --out "$out"
done
# of planning, and of what the scorer is shown
python -m experiments.analyses.ablations --out runs/ablations --train-frames 0 --seeds 0 \
  --scenario 3g-mobilenet lte-mobilenet "${prices[@]}" \
  --matrix runs/breadth/ablations.matrix.json
# of what is shown to the scorer: where it learns something
python -m experiments.analyses.ablations --out runs/ablations-of-learning --scenario 3g-alexnet \
  --variants "planning alone" "newest measurement only" "no change points" \
  --matrix runs/breadth/ablations-of-learning.matrix.json
coinfer evaluate experiments/studies/breadth.toml --out runs/breadth
coinfer report --results runs/breadth --out runs/breadth.html --markdown docs/results/breadth.md
for scenario in 3g-mobilenet lte-mobilenet; do
  python -m experiments.analyses.baseline_constants --scenario "$scenario"
  python -m experiments.analyses.algorithms --scenario "$scenario" --frames 200000
  python -m experiments.analyses.beyond_training --scenario "$scenario"
  coinfer compare --scenario "$scenario" --sub-second --frames 2000
  python -m experiments.analyses.information_limit --scenario "$scenario" --frames 4000
  python -m experiments.analyses.information_limit --scenario "$scenario" "${prices[@]}" \
    --policy "runs/policies/$scenario-priced-0" --frames 4000
done
python -m experiments.analyses.information_limit --scenario 3g-alexnet --frames 4000
coinfer sweep experiments/studies/sweeps/curriculum.toml --out runs/curriculum --jobs 2
