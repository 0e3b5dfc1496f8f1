#include "stacks.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "arch.h"
#include "module.h"
#include "safepoint.h"
#include "sys.h"

/* A closed hash table of numbers, and the stacks themselves one after another, in one mapping: the
 * kernel gives it memory as it is written to. Number n is the n-th word. */
enum { BUCKETS = 1 << 14, WORDS = 1 << 23 };

static struct {
    struct fs_lock lock;
    uintptr_t *words; /* depth, then the frames; word 0 is not used */
    uint32_t used;
    uint32_t *buckets;
} table;

/* --- the caller's stack ---------------------------------------------------------------------- */

static bool is_in(const struct dl_find_object *module, uintptr_t address) {
    return address >= (uintptr_t)module->dlfo_map_start &&
           address < (uintptr_t)module->dlfo_map_end;
}

unsigned fs_stack_here(uintptr_t *stack) {
    greg_t registers[NGREG] = {0};
    fs_save_registers(registers);
    unsigned depth = fs_walk_stack(registers, stack, FS_STACK_MAX);
    struct dl_find_object ours;
    if (!fs_find_module((uintptr_t)fs_stack_here, &ours)) {
        return depth;
    }
    unsigned skipped = 0;
    while (skipped < depth && (fs_is_opaque(stack[skipped]) || is_in(&ours, stack[skipped]))) {
        skipped++;
    }
    skipped = skipped < depth ? skipped : 0; /* all libc's: better than nothing */
    memmove(stack, stack + skipped, (depth - skipped) * sizeof *stack);
    return depth - skipped;
}

/* --- the table ------------------------------------------------------------------------------- */

static uint32_t hash(const uintptr_t *stack, unsigned depth) {
    uint64_t value = depth;
    for (unsigned i = 0; i < depth; i++) {
        value = (value ^ stack[i]) * 0x9e3779b97f4a7c15;
        value ^= value >> 29;
    }
    return (uint32_t)value;
}

static bool is_same(uint32_t number, const uintptr_t *stack, unsigned depth) {
    return table.words[number] == depth &&
           memcmp(&table.words[number + 1], stack, depth * sizeof *stack) == 0;
}

/* At the first stack. The words last: they say that it is there. */
static bool map_table(void) {
    uintptr_t *words = fs_map(WORDS * sizeof *words + BUCKETS * sizeof *table.buckets);
    if (words != NULL) {
        table.buckets = (uint32_t *)(words + WORDS);
        table.used = 1;
        fs_store_release(&table.words, words);
    }
    return words != NULL;
}

/* 0 where there is no room. The number is put into its bucket last: a child that finds the table in
 * the middle of this finds it whole. */
static uint32_t add(const uintptr_t *stack, unsigned depth, uint32_t *bucket) {
    if (table.used + depth + 1 > WORDS) {
        return 0;
    }
    uint32_t number = table.used;
    table.used += depth + 1;
    memcpy(&table.words[number + 1], stack, depth * sizeof *stack);
    table.words[number] = depth;
    fs_store_release(bucket, number);
    return number;
}

static uint32_t number_of(const uintptr_t *stack, unsigned depth) {
    if (table.words == NULL && !map_table()) {
        return 0;
    }
    uint32_t first = hash(stack, depth);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        uint32_t *bucket = &table.buckets[(first + i) % BUCKETS];
        if (*bucket == 0) {
            return add(stack, depth, bucket);
        }
        if (is_same(*bucket, stack, depth)) {
            return *bucket;
        }
    }
    return 0;
}

void fs_stacks_note(struct fs_thread *self, uint32_t slot) {
    if (slot >= self->capacity) {
        return;
    }
    self->entries[slot].stack = 0;
    if (self->walks) { /* libunwind locks a mutex */
        return;
    }
    uintptr_t stack[FS_STACK_MAX];
    unsigned depth = fs_stack_here(stack);
    fs_sigset saved = fs_signals_block();
    fs_lock(&table.lock);
    uint32_t number = number_of(stack, depth);
    fs_unlock(&table.lock);
    fs_signals_restore(saved);
    self->entries[slot].stack = number;
}

const uintptr_t *fs_stacks_get(uint32_t stack, unsigned *depth) {
    *depth = stack != 0 ? (unsigned)table.words[stack] : 0;
    return stack != 0 ? &table.words[stack + 1] : NULL;
}

void fs_stacks_alone(void) { fs_update(&table.lock.word, 0U); }
