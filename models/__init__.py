"""What is computed: branchy networks, their codecs, their graphs, their training and profiles.

- `facts`: layers, branches, weights and their cards, profiles, outcomes of exits;
- `codecs`: how a tensor or a picture becomes bytes at a cut;
- `graphs`: layer intervals as ONNX graphs, their quantisation and cache;
- `data`: labelled pictures from the data folder, and generated ones;
- `networks`: training, judging and profiling (torch);
- `capture`: any torch module becomes a network of ours (torch);
- `executors`: who computes layer intervals: ONNX Runtime, or any at a profile's pace;
- `shipped`: the models that come with the package.

A Pi imports `facts`, `codecs`, `graphs` and `data`: none of them needs torch. `codecs` knows
nothing of the others, `facts` knows `codecs`, `graphs` knows both.
"""
