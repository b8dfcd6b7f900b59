"""Where parameters come from: GGUF, safetensors, synthetic; every foreign layout converted losslessly to ours."""
