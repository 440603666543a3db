"""Pairs of pictures: found in folders and manifests, looked over, cropped into batches."""
