"""Drawing from a trained model, and translating with it."""
