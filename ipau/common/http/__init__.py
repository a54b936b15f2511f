"""What all pages and the API do with requests: who sends one, how many wait, what is checked first."""
