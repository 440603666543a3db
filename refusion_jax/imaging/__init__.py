"""Pictures: reading and writing files (files), colour and luma (color), colour maps (colormaps)."""
