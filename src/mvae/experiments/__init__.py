"""The paper's experiments as recipes, and the tables and figures made from them."""
