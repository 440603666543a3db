"""Pictures: reading and writing files (files), colour and luma (color), colour maps (colormaps).

Behind `files`: opening and limits (opening), Pillow's modes to arrays (decoding, pixels), 16 bits (tiff, deep),
EXIF and profiles (metadata, exif).
"""
