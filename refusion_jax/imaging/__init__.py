"""Pictures: files (files), luma and colour (color), the range step (ranges), colours of maps (colormaps).

Behind `files`: opening, limits and Pillow's modes (reading), TIFF (tiff), EXIF and profiles (metadata). For pictures
that do not lie on each other: registration, search, calibration, alignment, common_frame, overlays, resizing.
"""
