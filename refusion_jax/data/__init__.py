"""Image pairs: folders, built-in scenes, the input pipeline."""
