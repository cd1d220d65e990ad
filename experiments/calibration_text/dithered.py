#!/usr/bin/env python3
"""Weights of a quantized checkpoint with noise of half a step, so that the grid they lay on favours nobody.

    dithered.py PLAIN_FOLDER     (from `calque dequantize`; needs torch and safetensors; changes the folder)

A row of a linear layer is cut into blocks of 32 inputs, the step of a block of 4 bits is (max - min) / 15, and each weight gets uniform
noise of at most half of it.
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

folder = pathlib.Path(sys.argv[1])
generator = torch.Generator().manual_seed(0)
for path in sorted(folder.glob("*.safetensors")):
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight"):
            continue
        blocks = tensor.float().reshape(tensor.shape[0], -1, 32)
        step = (blocks.amax(2, keepdim=True) - blocks.amin(2, keepdim=True)) / 15
        noise = (torch.rand(blocks.shape, generator=generator) - 0.5) * step
        tensors[name] = (blocks + noise).reshape(tensor.shape).to(tensor.dtype)
    save_file(tensors, path, metadata={"format": "pt"})
