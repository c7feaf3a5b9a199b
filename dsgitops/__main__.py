"""`python -m dsgitops`."""

from dsgitops.cli.main import main

if __name__ == "__main__":
    main()
