"""The paper's published numbers, and what follows from them."""
