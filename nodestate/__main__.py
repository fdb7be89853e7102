"""`python -m nodestate`: the same command as `nodestate`."""

from nodestate.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
