"""One run over several processes: which rank this is, what the ranks say to each other, and what ends them all."""
