"""What layers take: clocks, memory, regression predictors, and the profile of a model."""
