"""Loss in parameters, tokens, compute and steps."""
