"""Roll-outs on a GPU: kernels in Triton, compiled on first use for the device at hand."""
