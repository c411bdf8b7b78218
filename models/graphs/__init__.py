"""Layer intervals as ONNX graphs: made, quantised and cached, with the codecs of cuts."""
