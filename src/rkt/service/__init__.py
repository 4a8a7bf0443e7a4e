"""The services: processes of rkt that stay, each for those who want it; no pod needs one to run."""
