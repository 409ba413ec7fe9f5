"""Best learning rate, best batch size and critical batch size against scale."""
