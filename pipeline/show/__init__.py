"""What people and programs are told: progress, reports, plans and errors in words."""
