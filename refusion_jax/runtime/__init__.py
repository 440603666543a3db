"""What is about this machine and not about fusion: compiling, memory, disk."""
