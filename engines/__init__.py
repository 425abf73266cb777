"""Networks: their table, weights, ONNX graphs, and the backends that run them."""
