"""From a bare folder of photographs to a segmenter: what is realistic, a plan with times, and its record."""
