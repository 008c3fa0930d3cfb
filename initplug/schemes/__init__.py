"""The mathematics of initialization: shapes and arguments in, distributions out. No torch."""
