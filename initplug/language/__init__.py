"""The recipe language: text in, validated `Recipe` out. No torch."""
