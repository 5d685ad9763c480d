"""Raw messages of exchanges become records: pure parsers, with the socket shells beside them."""
