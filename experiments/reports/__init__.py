"""What commands write: tables, figures and records."""
