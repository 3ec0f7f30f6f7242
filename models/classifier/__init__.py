"""Classifiers: labelled rows of numbers, and models that tell their classes apart."""
