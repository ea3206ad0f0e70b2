"""What is deployed holds together, and holds with the code: names, settings, roles, queries, hooks and pages."""
