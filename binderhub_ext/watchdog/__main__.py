"""`python -m binderhub_ext.watchdog`: the Hub watchdog."""

from .app import main

if __name__ == "__main__":
    main()
