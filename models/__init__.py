"""What a model and its data are: checkpoints, data sets, architectures, training recipes."""
