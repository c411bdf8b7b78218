"""Any torch model as a graph of layers that can be cut: capture, cuts, exits put into it."""
