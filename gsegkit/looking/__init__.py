"""A folder of photographs, looked at: what they are, how alike, and what may be learned from them."""
