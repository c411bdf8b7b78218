"""Layer intervals as ONNX graphs: made, quantised, cached and executed, with the codecs of cuts."""
