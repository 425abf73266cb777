"""What a night came to: a summary for programs, a table for the terminal, a page for the browser."""
