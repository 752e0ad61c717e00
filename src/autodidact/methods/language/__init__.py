"""Methods that change the weights of a language model."""
