"""Pictures as SVG: pure functions of numbers, without a word that a user wrote."""
