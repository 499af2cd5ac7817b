"""Services for accounts, their members, their keys and the record of changes."""
