"""`python -m sharefs` is the `sharefs` command."""

from sharefs.cli import main

if __name__ == "__main__":
    main()
