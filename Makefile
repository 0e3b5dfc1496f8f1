# forksafe: targets are all, demo, test, bench, lint, install, uninstall, clean.
CC ?= cc
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror
CFLAGS ?= -O2 -g
SHIM_CFLAGS = $(CFLAGS) -std=gnu11 $(WARNINGS) -D_GNU_SOURCE -fPIC -fvisibility=hidden \
	-ftls-model=initial-exec -fno-strict-aliasing -MMD -MP
SHIM_LDFLAGS = -shared -Wl,-soname,libforksafe.so -Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete \
	-Wl,--no-undefined -Wl,--version-script=$(BUILD)/exports.map

SHIM_SOURCES := $(sort $(wildcard shim/*.c) $(wildcard shim/hooks/*.c))
SHIM_OBJECTS := $(SHIM_SOURCES:%.c=$(BUILD)/%.o)
DEFS := $(wildcard shim/*.def shim/hooks/*.def)

.PHONY: all
all: $(BUILD)/libforksafe.so

$(BUILD)/libforksafe.so: $(SHIM_OBJECTS) $(BUILD)/exports.map
	@echo "  LD  $@"
	@$(CC) $(SHIM_LDFLAGS) -o $@ $(SHIM_OBJECTS)

$(BUILD)/shim/%.o: shim/%.c
	@mkdir -p $(@D)
	@echo "  CC  $<"
	@$(CC) $(SHIM_CFLAGS) -c -o $@ $<

$(BUILD)/exports.map: shim/exports.map.in $(DEFS)
	@mkdir -p $(@D)
	@$(CC) -E -P -x c -Ishim $< -o $@

-include $(SHIM_OBJECTS:.o=.d)
