"""Stability: what lets training go on."""
