"""What exits put into a module learn: their goals, losses, probes, features and kinds of heads."""
