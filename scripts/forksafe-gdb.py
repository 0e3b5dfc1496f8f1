"""forksafe-gdb.py - gdb commands for a process or core that was preloaded with libforksafe.so.

    (gdb) source forksafe-gdb.py
    (gdb) forksafe threads    each thread: state, depth, where it is
    (gdb) forksafe locks      each lock that is held or waited for: who holds it, who waits, and where
    (gdb) forksafe why        why this process hangs: from each waiting thread to whom it waits for

The records are read as forksafe_inspect says that they are laid out (shim/inspect.h), so that the library
needs no debug information, and may be another build. Lines of the program are shown where gdb knows them.
"""
import re
import struct

import gdb

MAGIC = b"forksafe"
VERSION = 2
# struct fs_inspect, field for field.
FIELDS = (
    ("8s", "magic"), ("I", "version"), ("I", "bytes"),
    ("Q", "mode stop fork_owner kind_names chunks generation"),
    ("I", "chunk_bytes chunk_next chunk_used chunk_records mode_off stopped kinds"),
    ("I", "thread_bytes thread_depth thread_capacity thread_entries thread_state thread_wait_count thread_waits"
          " thread_wait_room thread_wants_fork thread_generation thread_tid thread_owner_id thread_handle"
          " thread_name"),
    ("I", "entry_bytes entry_object entry_caller entry_kind entry_phase"),
    ("I", "wait_bytes wait_object wait_mutex wait_caller wait_kind critical_name"),
)
# Of that version (shim/registry.h).
STATES = ("attached", "detached", "suspended")
ATTACHED, DETACHED, SUSPENDED = range(3)
TAKING, TRYING, HELD, RELEASING = range(1, 5)
MUTEX, RWLOCK_READ, RWLOCK_WRITE, ONCE, COND, THREAD, CRITICAL = 0, 1, 2, 6, 8, 10, 11
FORK = -1  # a kind of our own: the fork under way, or a turn to fork
DISOWNED, FORKED = 1, 2  # marks in an entry's object (shim/inventory.h)
CHUNKS_MAX, ENTRIES_MAX = 1 << 16, 1 << 20
SYS_FUTEX = 202
# Code that a thread is in on behalf of the program.
PLUMBING = re.compile(r"/(libc[.-]|libpthread[.-]|ld-linux|ld-[0-9]|libforksafe)[^/]*$")


# --- memory -------------------------------------------------------------------------------------

def read(address, size):
    """Bytes, or None where nothing is mapped."""
    try:
        return bytes(gdb.selected_inferior().read_memory(address, size))
    except (gdb.error, OverflowError):
        return None


def read_word(address):
    data = read(address, 8)
    return struct.unpack("<Q", data)[0] if data else None


def read_string(address):
    data = bytearray()
    while len(data) < 256:
        byte = read(address + len(data), 1)
        if not byte or byte == b"\0":
            break
        data += byte
    return data.decode("utf-8", "replace")


def u32(record, offset):
    return struct.unpack_from("<I", record, offset)[0]


def u64(record, offset):
    return struct.unpack_from("<Q", record, offset)[0]


class Shape:
    """forksafe_inspect, its fields as attributes."""

    def __init__(self):
        if not gdb.selected_inferior().threads():
            raise gdb.GdbError("forksafe: there is no process: attach to one, or open a core")
        try:
            address = int(gdb.parse_and_eval("(unsigned long)&forksafe_inspect"))
        except gdb.error:
            raise gdb.GdbError("forksafe: this program is not preloaded: no libforksafe.so in it that gdb can see")
        layout = "<" + "".join(code * len(names.split()) for code, names in FIELDS)
        data = read(address, struct.calcsize(layout))
        names = [name for _, names in FIELDS for name in names.split()]
        values = struct.unpack(layout, data) if data else [0] * len(names)
        for name, value in zip(names, values):
            setattr(self, name, value)
        if self.magic != MAGIC or self.version != VERSION or self.bytes != len(data):
            raise gdb.GdbError("forksafe: the library's records are of another version: use the forksafe-gdb.py "
                               "that came with it")
        mode = read(self.mode, 4)
        if mode and u32(mode, 0) == self.mode_off:
            raise gdb.GdbError("forksafe: this process runs with FORKSAFE_MODE=off: it has no records")
        if self.chunks == 0 or not read_word(self.chunks):
            raise gdb.GdbError("forksafe: this process has no records yet: it has only just started")
        self.kind_words = [read_string(read_word(self.kind_names + 8 * kind) or 0) or "object"
                           for kind in range(self.kinds)]


# --- glibc's objects (shim/layout.c) --------------------------------------------------------------

def mutex_owner(address):
    """The owner's id, or 0 where nobody holds it."""
    data = read(address, 24)
    if not data or u32(data, 0) == 0:
        return 0
    in_lock_word = u32(data, 16) & (16 | 32)  # robust, priority-inheriting
    return u32(data, 0) & 0x3fffffff if in_lock_word else u32(data, 8)


def rwlock_writer(address):
    data = read(address, 56)
    return u32(data, 24) if data else 0


def is_shared(kind, address):
    """True if it was made for use by several processes."""
    data = read(address, 56) or bytes(56)
    return u32(data, 16) & 128 != 0 if kind == MUTEX else u32(data, 28) != 0


# --- words --------------------------------------------------------------------------------------

def symbol_of(address):
    """'name' or 'name + 8', or None."""
    text = gdb.execute("info symbol %#x" % address, to_string=True)
    return text.split(" in section ")[0].strip() if " in section " in text else None


def line_of(pc):
    found = gdb.find_pc_line(pc)
    return "%s:%d" % (found.symtab.filename.rsplit("/", 1)[-1], found.line) if found.symtab else None


def function_of(pc):
    """The function as the source has it, an inlined one too; else the symbol; else the address."""
    block = gdb.block_for_pc(pc)
    while block is not None and block.function is None:
        block = block.superblock
    return block.function.name if block is not None else (symbol_of(pc) or "%#x" % pc).split(" + ")[0]


def site(caller):
    """Where a call was made, from its return address."""
    name = function_of(caller - 1)
    line = line_of(caller - 1)
    return "%s (%s)" % (name, line) if line else name


class Item:
    """What a thread holds, is inside, or waits for."""

    def __init__(self, shape, kind, phase, address, caller, mutex=0):
        self.shape, self.kind, self.phase = shape, kind, phase
        self.address, self.caller, self.mutex = address, caller, mutex

    def what(self):
        if self.kind == CRITICAL:
            return read_string(self.address + self.shape.critical_name) or "a libc call"
        if self.kind == THREAD:
            return "the end of a thread"
        word = self.shape.kind_words[self.kind]
        return "%s %s" % (word, symbol_of(self.address) or "%#x" % self.address)

    def at(self):
        return " at " + site(self.caller) if self.caller else ""


# --- the records --------------------------------------------------------------------------------

class Thread:
    """A thread of the process, with what its record says, if it has one."""

    def __init__(self, gdb_thread):
        self.gdb_thread = gdb_thread
        self.tid = gdb_thread.ptid[1] or gdb_thread.ptid[0]
        self.name = gdb_thread.name or ""
        self.state, self.depth = None, 0
        self.address, self.owner_id, self.handle = None, self.tid, None
        self.holds, self.inside, self.waits = [], [], []
        self.futex = None

    def title(self):
        return '%d "%s"' % (self.tid, self.name) if self.name else str(self.tid)

    def frames(self):
        """(name, pc, line, whether it is the program's own), innermost first; the first of the program's is the
        last."""
        self.gdb_thread.switch()
        found = []
        frame = gdb.newest_frame()
        while frame is not None and len(found) < 64:
            pc = frame.pc()
            own = not PLUMBING.search(gdb.solib_name(pc) or "")
            asked = pc if not found else pc - 1
            found.append((frame.name() or "%#x" % pc, pc, line_of(asked), own))
            if own:
                break
            try:
                frame = frame.older()
            except gdb.error:
                break
        return found

    def read_futex(self):
        self.gdb_thread.switch()
        try:
            frame = gdb.newest_frame()
            call = int(frame.read_register("orig_rax").cast(gdb.lookup_type("long")))
            address = int(frame.read_register("rdi")) & (1 << 64) - 1
        except (gdb.error, ValueError):
            return
        self.futex = address if call == SYS_FUTEX else None

    def where(self):
        """'runs in f (a.c:1)' or 'is in read, called at f (a.c:1)'."""
        frames = self.frames()
        if not frames:
            return "is nowhere that gdb can see"
        name, _, line, own = frames[-1]
        here = "%s (%s)" % (name, line) if line else name
        if not own:
            return "is in %s" % here
        if len(frames) == 1:
            return "runs in %s" % here
        return "is in %s, called at %s" % (self.call(frames[:-1]), here)

    @staticmethod
    def call(frames):
        """What the program called: the hook or, where it has jumped to a function of ours, what that called."""
        behind = frames[-2][0].lstrip("_") if len(frames) > 1 else ""
        return behind if behind.startswith(("pthread_", "mtx_")) else frames[-1][0]


class World:
    def __init__(self):
        self.shape = shape = Shape()
        self.threads = [Thread(thread) for thread in gdb.selected_inferior().threads()]
        self.threads.sort(key=lambda thread: thread.gdb_thread.num)
        self.by_tid = {thread.tid: thread for thread in self.threads}
        self.vanished = {}  # owner_id: name
        self.generation = u32(read(shape.generation, 4) or bytes(4), 0)
        stop = u32(read(shape.stop, 4) or bytes(4), 0)
        self.stopped = stop & shape.stopped != 0
        for thread in self.threads:
            thread.read_futex()
        self.read_records()
        self.by_owner_id = {thread.owner_id: thread for thread in self.threads}
        self.by_address = {thread.address: thread for thread in self.threads}
        self.by_handle = {thread.handle: thread for thread in self.threads if thread.handle}
        self.holders = {}  # address: [(thread, item)]
        for thread in self.threads:
            for item in thread.holds + [item for item in thread.inside if item.kind == ONCE]:
                self.holders.setdefault(item.address, []).append((thread, item))

    def read_records(self):
        shape = self.shape
        chunk = read_word(shape.chunks)
        for _ in range(CHUNKS_MAX):
            head = read(chunk, shape.chunk_records) if chunk else None
            if head is None:
                return
            room = (shape.chunk_bytes - shape.chunk_records) // shape.thread_bytes
            used = min(u32(head, shape.chunk_used), room)
            first = chunk + shape.chunk_records
            data = read(first, used * shape.thread_bytes) if used else b""
            if data is None:
                return
            for at in range(0, len(data), shape.thread_bytes):
                self.read_record(data[at:at + shape.thread_bytes], first + at)
            chunk = u64(head, shape.chunk_next)

    def read_record(self, record, address):
        shape = self.shape
        generation = u32(record, shape.thread_generation)
        owner_id = u32(record, shape.thread_owner_id)
        name = record[shape.thread_name:shape.thread_name + 16].split(b"\0")[0].decode("utf-8", "replace")
        if generation not in (0, self.generation):
            self.vanished[owner_id] = name
        thread = self.by_tid.get(u32(record, shape.thread_tid))
        if generation != self.generation or thread is None or thread.address is not None:
            return
        thread.address, thread.owner_id = address, owner_id
        thread.name = thread.name or name  # a core has none; the record only after some forks
        thread.handle = u64(record, shape.thread_handle)
        thread.state = u32(record, shape.thread_state)
        thread.depth = u32(record, shape.thread_depth)
        self.read_entries(thread, record)
        self.read_waits(thread, record)

    def read_entries(self, thread, record):
        shape = self.shape
        count = min(thread.depth, u32(record, shape.thread_capacity), ENTRIES_MAX)
        data = read(u64(record, shape.thread_entries), count * shape.entry_bytes) if count else b""
        for at in range(0, len(data or b""), shape.entry_bytes):
            address = u64(data, at + shape.entry_object)
            kind, phase = data[at + shape.entry_kind], data[at + shape.entry_phase]
            if address & DISOWNED or kind >= shape.kinds or not TAKING <= phase <= RELEASING:
                continue
            item = Item(shape, kind, phase, address & ~FORKED, u64(data, at + shape.entry_caller))
            self.place(thread, item)

    def place(self, thread, item):
        own = {MUTEX: mutex_owner, RWLOCK_WRITE: rwlock_writer}.get(item.kind)
        is_owner = own is not None and own(item.address) == thread.owner_id
        waits_in_once = item.kind == ONCE and thread.futex == item.address
        if item.phase == HELD:
            if own is None or is_owner:  # else it is believed no longer
                thread.holds.append(item)
        elif item.phase == RELEASING:
            thread.holds.append(item)
        elif item.kind in (COND, CRITICAL) or item.kind == ONCE and not waits_in_once:
            thread.inside.append(item)
        elif is_owner and all(held.address != item.address for held in thread.holds):
            thread.holds.append(item)  # it has just got it
        elif item.phase == TAKING:
            thread.waits.append(item)

    def read_waits(self, thread, record):
        """A waiter is never ATTACHED. One that was woken may wait for its mutex by now."""
        shape = self.shape
        count = min(u32(record, shape.thread_wait_count), shape.thread_wait_room)
        for index in range(count if thread.state != ATTACHED else 0):
            at = shape.thread_waits + index * shape.wait_bytes
            address, mutex = u64(record, at + shape.wait_object), u64(record, at + shape.wait_mutex)
            kind, caller = record[at + shape.wait_kind], u64(record, at + shape.wait_caller)
            if address == 0 or kind >= shape.kinds:
                continue
            if mutex and thread.futex == mutex:
                thread.waits.append(Item(shape, MUTEX, TAKING, mutex, caller))
            else:
                thread.waits.append(Item(shape, kind, TAKING, address, caller, mutex))
        if record[shape.thread_wants_fork] or thread.state == SUSPENDED:
            thread.waits.append(Item(shape, FORK, TAKING, 0, 0))

    def owners(self, wait):
        """Whom it waits for: threads, or ids of threads that are not there."""
        if wait.kind in (MUTEX, RWLOCK_READ, RWLOCK_WRITE):
            owner = (mutex_owner if wait.kind == MUTEX else rwlock_writer)(wait.address)
            if owner:
                return [self.by_owner_id.get(owner, owner)]
        if wait.kind == THREAD:
            return [self.by_handle[wait.address]] if wait.address in self.by_handle else []
        if wait.kind == FORK:
            address = read_word(self.shape.fork_owner)
            return [self.by_address[address]] if address in self.by_address and address else []
        unique = []
        for thread, _ in self.holders.get(wait.address, []):
            if thread not in unique:
                unique.append(thread)
        return unique

    def taken_at(self, thread, address):
        for holder, item in self.holders.get(address, []):
            if holder is thread:
                return ", taken" + item.at()
        return ""

    def absent(self, owner, wait):
        """What is to be said of an owner that is not there."""
        name = self.vanished.get(owner)
        who = 'thread %d "%s"' % (owner, name) if name else "thread %d" % owner
        if is_shared(wait.kind, wait.address):
            return "%s of another process: the lock is shared between processes" % who
        return "%s, which is gone: it vanished at a fork, or ended; nobody will release it" % who


# --- commands -----------------------------------------------------------------------------------

def say(line=""):
    gdb.write(line + "\n")


class Command(gdb.Command):
    """Looks at the records; the selected thread and frame stay selected."""

    def __init__(self, name):
        super().__init__("forksafe " + name, gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        if argument:
            raise gdb.GdbError("forksafe: this command takes no argument")
        selected = gdb.selected_thread()
        frame = gdb.selected_frame() if selected is not None else None
        try:
            self.show(World())
        finally:
            if selected is not None and selected.is_valid():
                selected.switch()
                if frame is not None and frame.is_valid():
                    frame.select()


class Threads(Command):
    """Shows each thread: its state, its depth (locks and libc calls), and where it is."""

    def show(self, world):
        say("%d fork%s deep%s" % (world.generation - 1, "" if world.generation == 2 else "s",
                                  ", a fork is under way" if world.stopped else ""))
        row = "%-4s %-8s %-16s %-11s %-6s %s"
        say(row % ("NUM", "TID", "NAME", "STATE", "DEPTH", "WHERE"))
        for thread in world.threads:
            state = STATES[thread.state] if thread.state is not None and thread.state < 3 else "unrecorded"
            say(row % (thread.gdb_thread.num, thread.tid, thread.name, state, thread.depth, thread.where()))


class Locks(Command):
    """Shows each lock that is held or waited for, who holds it, who waits, and where."""

    def show(self, world):
        lines = {}  # what: [line]
        for thread in world.threads:
            for item in thread.holds:
                word = "being released" if item.phase == RELEASING else "held"
                lines.setdefault(item.what(), []).append("  %s by %s, taken%s" % (word, thread.title(), item.at()))
            for item in thread.inside:
                lines.setdefault(item.what(), []).append("  %s is inside, called%s" % (thread.title(), item.at()))
        for thread in world.threads:
            for item in thread.waits:
                if item.kind in (FORK, THREAD):
                    continue
                absent = [owner for owner in world.owners(item) if isinstance(owner, int)]
                known = lines.setdefault(item.what(), [])
                known.extend(line for line in ("  held by " + world.absent(owner, item) for owner in absent)
                             if line not in known)
                known.append("  waited for by %s%s" % (thread.title(), item.at()))
        for what in sorted(lines):
            say(what)
            for line in lines[what]:
                say(line)
        if not lines:
            say("no lock is held or waited for")


class Why(Command):
    """Says why this process hangs: whom each waiting thread waits for, and what that does."""

    def show(self, world):
        waiting = [thread for thread in world.threads if thread.waits]
        deadlocks = []
        chains = [self.follow(world, thread, deadlocks) for thread in waiting]
        for cycle in deadlocks:
            say("DEADLOCK of %d thread%s: %s" % (len(cycle), "" if len(cycle) == 1 else "s", " -> ".join(
                thread.title() for thread in cycle + cycle[:1])))
        for chain in chains:
            for line in chain:
                say(line)
        if not waiting:
            say("no thread waits for another")

    def follow(self, world, thread, deadlocks):
        """Lines; a cycle is added to `deadlocks` once."""
        lines = ["%s %s" % (thread.title(), self.waits_for(thread.waits[-1]))]
        path = [thread]
        while path[-1].waits:
            wait = path[-1].waits[-1]
            owners = world.owners(wait)
            if not owners:
                lines.append("    " + self.nobody(wait))
                break
            more = ", and by %d more" % (len(owners) - 1) if len(owners) > 1 else ""
            owner = owners[0]
            verb = {THREAD: "that is", FORK: "whose turn it is:"}.get(wait.kind, "held by")
            if isinstance(owner, int):
                lines.append("    %s %s" % (verb, world.absent(owner, wait)))
                break
            who = "itself" if owner is path[-1] else owner.title()
            said = "    %s %s%s%s" % (verb, who, world.taken_at(owner, wait.address), more)
            if owner in path:
                cycle = path[path.index(owner):]
                if all(set(map(id, cycle)) != set(map(id, known)) for known in deadlocks):
                    deadlocks.append(cycle)
                lines.append(said + ": a deadlock")
                break
            path.append(owner)
            lines.append("%s, which %s" % (said, self.waits_for(owner.waits[-1]) if owner.waits else owner.where()))
        return lines

    @staticmethod
    def waits_for(wait):
        if wait.kind == FORK:
            return "waits for a fork"
        return "waits for %s%s" % (wait.what(), wait.at())

    @staticmethod
    def nobody(wait):
        if wait.kind in (MUTEX, RWLOCK_READ, RWLOCK_WRITE):
            return "nobody holds it: it was just released, or its memory was overwritten"
        if wait.kind == THREAD:
            return "forksafe does not know that thread, or it has ended"
        if wait.kind == FORK:
            return "nobody forks: it is about to go on"
        return "nobody owns that: another thread must signal, post or arrive"


class Prefix(gdb.Command):
    """Shows what libforksafe.so has recorded: forksafe threads, forksafe locks, forksafe why."""

    def __init__(self):
        super().__init__("forksafe", gdb.COMMAND_STATUS, gdb.COMPLETE_NONE, True)

    def invoke(self, argument, from_tty):
        raise gdb.GdbError("forksafe: say what to show: forksafe threads, forksafe locks or forksafe why")


Prefix()
Threads("threads")
Locks("locks")
Why("why")
