.PHONY: check test bench

check: ; ruff format --check . && ruff check . && mypy && lint-imports
test: ; pytest
bench: ; set -e; for script in $(wildcard benchmarks/*.py); do python "$$script"; done
