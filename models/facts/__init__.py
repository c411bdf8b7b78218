"""Facts about networks, without torch or ONNX: layers, branches, cards, profiles, outcomes."""
