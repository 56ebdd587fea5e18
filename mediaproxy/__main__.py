"""``python -m mediaproxy`` is the ``mediaproxy`` command."""

from mediaproxy.cli.mediaproxy import main

if __name__ == "__main__":
    main()
