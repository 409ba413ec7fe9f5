"""Fits: a law and runs in, parameters with intervals and an honest account of the evidence out."""
