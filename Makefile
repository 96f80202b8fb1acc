# SPDX-License-Identifier: GPL-2.0-only OR MIT
# A thin front for Meson. `make demo` and `make check` are all that a newcomer needs.
BUILD ?= build

.PHONY: all deps demo check check-debian13 soak deb install clean kernel

all: deps
	@sh tools/configure.sh $(BUILD)
	@ninja -C $(BUILD)

# Installs the Debian packages that are missing; says so and goes on where it may not.
deps:
	@sh tools/deps.sh

demo: all
	@sh tools/demo.sh $(BUILD)

check: all
	@sh tools/check.sh $(BUILD)

# make demo and make check once more, in a chroot of Debian 13 below BUILD; a part of the soak.
check-debian13: all
	@sh tools/debian13.sh $(BUILD)

# The long runs; PARTS="boots load": only these. tools/soak.sh says what there is.
soak: all
	@sh tools/soak.sh $(BUILD) $(PARTS)

# noexit.ko for the lab's kernel (docs/kernel.md); the headers are fetched, not installed.
kernel:
	@mkdir -p $(BUILD)
	@python3 kernel/build_module.py $(BUILD)

# The Debian packages, in BUILD/deb (debian/).
deb: all
	@sh tools/deb.sh $(BUILD)

# To PREFIX (/usr/local), below DESTDIR if that is set.
install: all
	$(if $(PREFIX),@meson configure $(BUILD) -Dprefix=$(PREFIX))
	@meson install -C $(BUILD)

clean:
	rm -rf $(BUILD)
