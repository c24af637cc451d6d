"""From a source and options to a trained model."""
