"""What was fetched or computed once and may be given again: query results, and responses of HTTP origins."""
