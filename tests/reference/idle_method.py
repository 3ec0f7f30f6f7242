"""A method that forgets nothing: what every audit must catch."""


def run(model, data, forget, config, *, generator, progress):
    """Return the model as it is."""
    return model
