"""Training sequence classifiers: batches, loss, the loop."""
