"""Weights in and out: the released .pth files and .safetensors files."""
