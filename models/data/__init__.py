"""Pictures: labelled ones from the data folder, and generated ones where there are none."""
