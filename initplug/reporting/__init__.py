"""Plain data -> a page that people look at. No torch."""
