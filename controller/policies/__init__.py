"""The learned policy as a numpy-only artefact, and the observation it decides on."""
