"""Tables of papers as recipes: what each row needs, whether it is here, and how near our number comes to theirs."""
