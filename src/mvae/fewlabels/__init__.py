"""Terms of training for few labelled rows, none of them in the paper."""
