"""Tables: columns of numbers, categories, texts and pictures, any cell of which may be missing."""
