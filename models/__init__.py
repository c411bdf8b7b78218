"""What is computed: branchy networks, their training and splitting, profiles, exit outcomes.

The facts about networks (layers, cards, profiles, outcomes, ONNX graphs) are torch-free and may be
imported on a Pi; everything that needs torch lives in `models.networks`.
"""
