"""x."""
write_run_report = None
