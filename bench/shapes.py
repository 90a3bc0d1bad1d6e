"""What all measurements have in common."""

FEATURES = 64
HIDDEN_SIZES = [64, 256]
