"""Methods beside each other on somebody's photographs: which one to take, with annotations or without."""
