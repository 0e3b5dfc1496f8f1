# forksafe. Targets: all, demo, test, real, stress, bench, lint, install, uninstall, deb, clean.
# The one place where the version stands: forksafe --version, forksafe.pc and the Debian package take it from here.
VERSION := 0.1.0
CC ?= cc
CXX ?= c++
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
# Of `make stress`: how long each of its runs takes.
SECONDS ?= 600

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror
CFLAGS ?= -O2 -g
OBJCOPY ?= objcopy
comma := ,
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined

SHIM_CFLAGS = $(CFLAGS) -std=gnu11 $(WARNINGS) -D_GNU_SOURCE -fPIC -fvisibility=hidden \
	-ftls-model=initial-exec -fno-strict-aliasing -MMD -MP
SHIM_LDFLAGS = -shared -nostartfiles -Wl,-soname,libforksafe.so -Wl,-z,norelro -Wl,-z,now -Wl,-z,noseparate-code -Wl,-z,nodelete \
	-Wl,-z,start-stop-visibility=hidden -Wl,--no-undefined -Wl,--version-script=$(BUILD)/exports.map
TEST_CFLAGS = -std=gnu11 -O2 -g $(WARNINGS) -pthread
TEST_CXXFLAGS = -std=c++17 -O2 -g -Wall -Wextra -Werror -pthread

LIBRARY := $(BUILD)/libforksafe.so
# In this order: what a child runs lies together, and is mapped at its first touch.
SHIM_SOURCES := $(sort $(wildcard shim/*.c)) $(sort $(wildcard shim/hooks/*.c))
SHIM_OBJECTS := $(SHIM_SOURCES:%.c=$(BUILD)/%.o)
SANITIZED_OBJECTS := $(SHIM_SOURCES:%.c=$(BUILD)/sanitized/%.o)
TRAPPING_OBJECTS := $(SHIM_SOURCES:%.c=$(BUILD)/trapping/%.o)
CHECKED := $(LIBRARY) $(BUILD)/libforksafe-sanitized.so $(BUILD)/libforksafe-trapping.so
DEFS := $(wildcard shim/*.def shim/hooks/*.def)

TESTS := $(BUILD)/tests
HAZARDS := $(patsubst tests/programs/%,$(TESTS)/%,$(basename $(wildcard tests/programs/*.c tests/programs/*.cpp)))
PROGRAMS := $(HAZARDS) $(addprefix $(TESTS)/,unit held poold stress latency scale syslog_storm alloc_storm \
	atfork_order libatfork_opened.so urcu urcu-bp detect_daemon detect_stuck \
	crowd crowd_static crowd_static_pie filter fds execs idle loads libforker.so libwrap.so bench)

.PHONY: all compiler
all: $(LIBRARY) $(BUILD)/forksafe-ps

$(SHIM_OBJECTS): | compiler
compiler:
	@command -v $(firstword $(CC)) >/dev/null || { echo "make: no C compiler ($(CC)); scripts/setup build installs one" >&2; exit 1; }

# --- the library -------------------------------------------------------------------------------

# A fork copies each mapping of a process, at 0.4 us, and of those that were written each page that was touched, at
# 0.15 us. So there are three mappings: code with constants, data (with what is zero at first, and with what RELRO would
# cut off), and the page that each fork writes. The data are three pages: constants have no pointers, which the loader
# would write, large buffers are mapped when they are needed, and shim/data.ld has no room lost between code and data, or
# before the page with all that a child writes where nobody has vanished.
$(LIBRARY): $(SHIM_OBJECTS) $(BUILD)/exports.map
	@echo "  LD  $@"
	@$(CC) $(CFLAGS) -r -nostdlib -o $(BUILD)/shim.o $(SHIM_OBJECTS)
	@$(OBJCOPY) --rename-section .bss=.data.zero,alloc,load,data,contents $(BUILD)/shim.o
	@$(CC) $(SHIM_LDFLAGS) -Wl,-T,shim/data.ld -o $@ $(BUILD)/shim.o

$(BUILD)/shim/%.o: shim/%.c
	@mkdir -p $(@D)
	@echo "  CC  $<"
	@$(CC) $(SHIM_CFLAGS) -c -o $@ $<

$(BUILD)/exports.map: shim/exports.map.in $(DEFS)
	@mkdir -p $(@D)
	@$(CC) -E -P -x c -Ishim $< -o $@

# For the stress test: the same with AddressSanitizer and UndefinedBehaviorSanitizer, and with the latter
# alone, without its run-time library. gcc 12's libasan does not survive the fork of a multithreaded process
# (its allocator's lock may be held by a vanished thread), so only the second can be used with forks.
$(BUILD)/libforksafe-sanitized.so: $(SANITIZED_OBJECTS) $(BUILD)/exports.map
	@echo "  LD  $@"
	@$(CC) $(filter-out -Wl$(comma)--no-undefined,$(SHIM_LDFLAGS)) $(SANITIZE) -o $@ $(SANITIZED_OBJECTS)
$(BUILD)/sanitized/shim/%.o: shim/%.c
	@mkdir -p $(@D)
	@echo "  CC  $< (sanitized)"
	@$(CC) $(SHIM_CFLAGS) $(SANITIZE) -c -o $@ $<

$(BUILD)/libforksafe-trapping.so: $(TRAPPING_OBJECTS) $(BUILD)/exports.map
	@echo "  LD  $@"
	@$(CC) $(SHIM_LDFLAGS) -o $@ $(TRAPPING_OBJECTS)

$(BUILD)/trapping/shim/%.o: shim/%.c
	@mkdir -p $(@D)
	@echo "  CC  $< (trapping)"
	@$(CC) $(SHIM_CFLAGS) -fsanitize=undefined -fsanitize-undefined-trap-on-error -c -o $@ $<

# Reads the records of another process. Of the library it shares how objects and text look: what it does not
# call of these files is dropped, and with it what that would need.
PS_OBJECTS := $(patsubst shim/%.c,$(BUILD)/tools/%.o,$(wildcard shim/tools/*.c) shim/layout.c shim/json.c shim/report.c)
$(BUILD)/forksafe-ps: $(PS_OBJECTS)
	@echo "  LD  $@"
	@$(CC) $(CFLAGS) -Wl,--gc-sections -o $@ $(PS_OBJECTS)
$(BUILD)/tools/%.o: shim/%.c | compiler
	@mkdir -p $(@D)
	@echo "  CC  $< (forksafe-ps)"
	@$(CC) $(CFLAGS) -std=gnu11 $(WARNINGS) -D_GNU_SOURCE -ffunction-sections -fdata-sections -MMD -MP -c -o $@ $<

-include $(PS_OBJECTS:.o=.d) $(SHIM_OBJECTS:.o=.d) $(SANITIZED_OBJECTS:.o=.d) $(TRAPPING_OBJECTS:.o=.d)

# --- test programs -----------------------------------------------------------------------------

$(TESTS)/%: tests/programs/%.c $(wildcard tests/programs/*.h)
	@mkdir -p $(@D)
	@echo "  CC  $<"
	@$(CC) $(TEST_CFLAGS) -o $@ $< $(TEST_LIBS)

$(TESTS)/%: tests/programs/%.cpp $(wildcard tests/programs/*.h)
	@mkdir -p $(@D)
	@echo "  CXX $<"
	@$(CXX) $(TEST_CXXFLAGS) -o $@ $<

$(TESTS)/bench: tests/bench/bench.cpp
	@mkdir -p $(@D)
	@echo "  CXX $<"
	@$(CXX) $(TEST_CXXFLAGS) -o $@ $<

$(TESTS)/unit: $(wildcard tests/unit/*.c) $(wildcard tests/unit/*.h) tests/programs/calls.h $(SHIM_OBJECTS)
	@mkdir -p $(@D)
	@echo "  CC  $<"
	@$(CC) $(TEST_CFLAGS) -Wno-conversion -D_GNU_SOURCE -ftls-model=initial-exec -fno-strict-aliasing \
		-o $@ $(filter %.c,$^) $(SHIM_OBJECTS) $$(pkg-config --cflags --libs check)

define simple_program
$(TESTS)/$(1): $(2) $(wildcard tests/stress/*.h tests/surroundings/*.h)
	@mkdir -p $$(@D)
	@echo "  CC  $$<"
	@$$(CC) $$(TEST_CFLAGS) -o $$@ $$< $(3)
endef
$(eval $(call simple_program,poold,tests/demo/poold.c,))
$(eval $(call simple_program,stress,tests/stress/stress.c,))
$(eval $(call simple_program,latency,tests/stress/latency.c,))
$(eval $(call simple_program,scale,tests/scale/scale.c,))
$(eval $(call simple_program,detect_daemon,tests/detect/daemon.c,))
$(eval $(call simple_program,detect_stuck,tests/detect/stuck.c,))
$(eval $(call simple_program,alloc_storm,tests/order/alloc_storm.c,))
$(eval $(call simple_program,held,tests/inspect/held.c,))
$(eval $(call simple_program,crowd,tests/surroundings/crowd.c,))
$(eval $(call simple_program,filter,tests/surroundings/filter.c,))
$(eval $(call simple_program,fds,tests/surroundings/fds.c,))
$(eval $(call simple_program,execs,tests/surroundings/execs.c,))
$(eval $(call simple_program,idle,tests/surroundings/idle.c,))
$(eval $(call simple_program,loads,tests/surroundings/loads.c,))
$(eval $(call simple_program,crowd_static,tests/surroundings/crowd.c,-static))
$(eval $(call simple_program,crowd_static_pie,tests/surroundings/crowd.c,-static-pie -fPIE))
$(eval $(call simple_program,libforker.so,tests/surroundings/forker.c,-fPIC -shared))
$(eval $(call simple_program,libwrap.so,tests/surroundings/wrap.c,-fPIC -shared))
$(eval $(call simple_program,syslog_storm,tests/real/syslog.c,))
$(eval $(call simple_program,urcu,tests/order/urcu.c,-lurcu-memb -lurcu-common))
$(eval $(call simple_program,urcu-bp,tests/order/urcu.c,-DFLAVOUR_BP -lurcu-bp -lurcu-common))
$(eval $(call simple_program,libatfork_linked.so,tests/order/atfork_plugin.c,-fPIC -shared -DPLUGIN=linked))
$(eval $(call simple_program,libatfork_opened.so,tests/order/atfork_plugin.c,-fPIC -shared -DPLUGIN=opened))
$(eval $(call simple_program,atfork_order,tests/order/atfork.c,-rdynamic -Wl$(comma)--no-as-needed -L$(TESTS) -latfork_linked '-Wl$(comma)-rpath$(comma)$$$$ORIGIN'))
$(TESTS)/atfork_order: $(TESTS)/libatfork_linked.so
$(eval $(call simple_program,private/libprivate.so,tests/plugins/private.c,-fPIC -shared))
$(eval $(call simple_program,libcaller.so,tests/plugins/caller.c,-fPIC -shared '-Wl$(comma)-rpath$(comma)$$$$ORIGIN/private'))
$(TESTS)/loader: $(TESTS)/libcaller.so $(TESTS)/private/libprivate.so
$(TESTS)/loader: TEST_CFLAGS += -rdynamic
$(eval $(call simple_program,libnss_fstest.so.2,tests/plugins/nss_forksafe.c,-fPIC -shared -Wl$(comma)-soname$(comma)libnss_fstest.so.2))
$(TESTS)/nss: $(TESTS)/libnss_fstest.so.2
$(TESTS)/nss: TEST_LIBS = -Wl,--no-as-needed -L$(TESTS) -l:libnss_fstest.so.2 '-Wl,-rpath,$$ORIGIN'
$(eval $(call simple_program,libfini.so,tests/plugins/fini.c,-fPIC -shared))
$(TESTS)/exits: $(TESTS)/libfini.so
$(TESTS)/exits: TEST_LIBS = -L$(TESTS) -lfini '-Wl,-rpath,$$ORIGIN'
$(eval $(call simple_program,libownlocks.so,tests/plugins/ownlocks.c,-fPIC -shared))
$(TESTS)/opaque: $(TESTS)/libownlocks.so
$(TESTS)/opaque: TEST_LIBS = -L$(TESTS) -lownlocks '-Wl,-rpath,$$ORIGIN'

# --- what a user runs --------------------------------------------------------------------------

.PHONY: demo test real stress bench lint install uninstall deb clean
demo:
	@scripts/setup demo
	@$(MAKE) --no-print-directory -s $(LIBRARY) $(TESTS)/poold
	@scripts/demo $(TESTS) $(LIBRARY)

test:
	@scripts/setup test
	@$(MAKE) --no-print-directory -s -j2 all $(CHECKED) $(PROGRAMS)
	@tests/run $(TESTS) $(LIBRARY)

real:
	@scripts/setup real
	@$(MAKE) --no-print-directory -s -j2 $(LIBRARY) $(TESTS)/syslog_storm
	@tests/real/run $(LIBRARY) $(TESTS)

stress:
	@scripts/setup test
	@$(MAKE) --no-print-directory -s $(CHECKED) $(PROGRAMS)
	@tests/stress/run $(LIBRARY) $(TESTS) $(SECONDS)
	@tests/stress/latency $(LIBRARY) $(TESTS)
	@STORM_FORKS=2000 tests/hazards $(TESTS) $(LIBRARY) 'storm_*' 'libc_*' 'loader_*storm'

bench:
	@scripts/setup bench
	@$(MAKE) --no-print-directory -s -j2 all $(TESTS)/bench
	@tests/bench/run --json $(BUILD)/bench.json --svg $(BUILD)/bench.svg $(TESTS) $(LIBRARY)

lint:
	@scripts/setup lint
	@scripts/lint

# --- installing --------------------------------------------------------------------------------

# What goes where; everything below PREFIX that is named here is ours, and uninstall takes it away.
TO := $(DESTDIR)$(PREFIX)
PARTS := $(sort $(wildcard scripts/forksafe.d/*))
MANUALS := $(sort $(wildcard scripts/man/*.[17]))

.PHONY: prefix
prefix:
	@case "$(PREFIX)" in /*) ;; *) echo "make: PREFIX is '$(PREFIX)': give an absolute path" >&2; exit 2 ;; esac

install: all | prefix
	install -D -m 644 $(LIBRARY) "$(TO)/lib/libforksafe.so"
	install -D -m 755 scripts/forksafe "$(TO)/bin/forksafe"
	install -D -m 755 $(BUILD)/forksafe-ps "$(TO)/libexec/forksafe/forksafe-ps"
	install -d -m 755 "$(TO)/share/forksafe" "$(TO)/lib/pkgconfig"
	install -m 644 $(PARTS) scripts/forksafe-gdb.py "$(TO)/share/forksafe/"
	echo "$(VERSION)" | install -m 644 /dev/stdin "$(TO)/share/forksafe/version"
	pc=$$(sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' scripts/forksafe.pc.in) && \
		echo "$$pc" | install -m 644 /dev/stdin "$(TO)/lib/pkgconfig/forksafe.pc"
	for page in $(MANUALS); do \
		install -D -m 644 "$$page" "$(TO)/share/man/man$${page##*.}/$${page##*/}" || exit 1; \
	done
	install -D -m 644 scripts/completion.bash "$(TO)/share/bash-completion/completions/forksafe"

uninstall: | prefix
	rm -f "$(TO)/lib/libforksafe.so" "$(TO)/bin/forksafe" "$(TO)/lib/pkgconfig/forksafe.pc" \
		"$(TO)/share/man/man1/forksafe.1" "$(TO)/share/man/man7/libforksafe.7" \
		"$(TO)/share/bash-completion/completions/forksafe"
	rm -rf "$(TO)/libexec/forksafe" "$(TO)/share/forksafe"

deb:
	@scripts/setup deb
	@$(MAKE) --no-print-directory -s all
	@scripts/deb $(BUILD) $(VERSION)

clean:
	rm -rf $(BUILD)
