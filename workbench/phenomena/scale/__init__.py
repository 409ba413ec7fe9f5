"""Scale: what the loss does as models, data and compute grow."""
