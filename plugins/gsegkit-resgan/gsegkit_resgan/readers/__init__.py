"""Files of other software: names and forms of their tensors, and how they become the family's."""
