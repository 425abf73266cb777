"""From committed segments to one verified file with every other stream of the source."""
