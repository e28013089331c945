"""What recipes measure: functions that take a `Lab` and the recipe's options, and return values for its result."""
