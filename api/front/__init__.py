"""What stands before the endpoints: routing by table, endpoints compiled once, measures, and answers that are kept."""
