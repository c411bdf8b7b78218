"""A policy deployed where nothing is as in training, before and after it has learnt there."""
