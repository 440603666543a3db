"""Video files, read and written through PyAV (the extra `video`): frames with their times, pairs of them, sound."""
