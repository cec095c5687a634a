"""Where pictures and coded files come from; what leaves this package are the records of `codec.py`."""
