"""What probes learn: one task a file, each with exact or held-out evaluation."""
