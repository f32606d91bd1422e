# Two commands: `make demo`, `make test`. Both are thin: plain cargo does the same. Where Python's pip
# is at hand, scripts/setup first puts a CUDA compiler into .toolchain; CUDA=off skips that.
#
#   make demo ARGS='--data DIR --seed 1'      make bench ARGS=linear
CARGO = cargo

demo: toolchain
	$(CARGO) run --release -- demo $(ARGS)

test: toolchain
	$(CARGO) test --release --workspace $(ARGS)

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

bench:
	$(CARGO) bench -- $(ARGS)

toolchain:
	@if [ "$(CUDA)" != off ] && python3 -m pip --version > /dev/null 2>&1; then scripts/setup; fi

.PHONY: demo test check bench toolchain
