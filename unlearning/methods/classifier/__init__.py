"""Methods of the classifier family."""
