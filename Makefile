.PHONY: check test bench

check: ; ruff format --check . && ruff check . && mypy && lint-imports
test: ; pytest
bench: ; python -m benchmarks.decode && python -m benchmarks.train
