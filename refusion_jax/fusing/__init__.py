"""Fusing pairs and stacks of pictures of any size with a trained F."""
