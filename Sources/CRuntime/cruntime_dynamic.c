// Functions of the vDSO and of the dynamic loader, taken from there and nowhere else: a name that is bound in the usual way means the
// program's own function of that name where it has one, and a hit must not run that.
#define _GNU_SOURCE
#include "cruntime_dynamic.h"

#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <sys/auxv.h>

// Run once.
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)

static uint64_t biased(uint64_t base, uint64_t value) {
    // The loader relocates its own dynamic section, nobody that of the vDSO.
    return value < base ? base + value : value;
}

// Names of a dynamic symbol table; it has no count, only hash tables that mention every symbol.
static uint64_t symbol_count(const uint32_t *hash, const uint32_t *gnu) {
    if (hash != NULL) return hash[1];
    if (gnu == NULL) return 0;
    uint32_t buckets = gnu[0], first = gnu[1], last = 0;
    const uint32_t *bucket = (const uint32_t *)((const uint64_t *)(gnu + 4) + gnu[2]);
    const uint32_t *chain = bucket + buckets;
    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last) last = bucket[i];
    if (last < first) return first;
    while ((chain[last - first] & 1) == 0) last++;
    return (uint64_t)last + 1;
}

static int same(const char *a, const char *b) {
    while (*a != 0 && *a == *b) a++, b++;
    return *a == *b;
}

static struct cruntime_place look_up(uint64_t base, const char *name) {
    const struct cruntime_place none = {0, 0};
    if (base == 0) return none;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(base + header->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_DYNAMIC) dynamic = (const Elf64_Dyn *)(base + segments[i].p_vaddr);
    const Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    const uint32_t *hash = NULL, *gnu = NULL;
    for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
        uint64_t at = biased(base, dynamic->d_un.d_ptr);
        switch (dynamic->d_tag) {
            case DT_SYMTAB: symbols = (const Elf64_Sym *)at; break;
            case DT_STRTAB: names = (const char *)at; break;
            case DT_HASH: hash = (const uint32_t *)at; break;
            case DT_GNU_HASH: gnu = (const uint32_t *)at; break;
            default: break;
        }
    }
    if (symbols == NULL || names == NULL) return none;
    uint64_t count = symbol_count(hash, gnu);
    for (uint64_t i = 1; i < count; i++)
        if (symbols[i].st_shndx != SHN_UNDEF && same(names + symbols[i].st_name, name))
            return (struct cruntime_place){base + symbols[i].st_value, symbols[i].st_size};
    return none;
}

static uint64_t symbol(uint64_t base, const char *name) { return look_up(base, name).address; }

// Where libc is loaded, from the loader's list for debuggers; 0 where there is none.
static uint64_t libc_base(void) {
    const struct r_debug *list = (const struct r_debug *)symbol(getauxval(AT_BASE), "_r_debug");
    for (const struct link_map *map = list != NULL ? list->r_map : NULL; map != NULL; map = map->l_next) {
        const char *base = map->l_name;
        for (const char *c = map->l_name; *c != 0; c++)
            if (*c == '/') base = c + 1;
        if (same(base, "libc.so.6")) return map->l_addr;
    }
    return 0;
}

struct cruntime_dynamic cruntime_dynamic;

static int first_module(struct dl_phdr_info *info, size_t size, void *data) {
    struct dl_phdr_info *out = data;
    if (size >= offsetof(struct dl_phdr_info, dlpi_tls_modid)) *out = *info;
    return 1;
}

// dl_iterate_phdr(3) gives the loader's counts of modules ever loaded and ever unloaded, but takes a lock. The words that it
// reads lie in the loader's `_rtld_global`, whose layout differs between versions: they are found by their values. The number of
// loaded modules follows the head of their list. Whatever else has the value of the other one is watched too, and can at worst make
// caches forget too often.
static void find_generation(void) {
    static const volatile uint64_t constant;
    typedef int (*iterate)(int (*)(struct dl_phdr_info *, size_t, void *), void *);
    iterate dl_iterate = (iterate)symbol(libc_base(), "dl_iterate_phdr");
    struct cruntime_place global = look_up(getauxval(AT_BASE), "_rtld_global");
    struct dl_phdr_info counts = {0};
    if (dl_iterate == NULL || global.size < 32) return;
    dl_iterate(first_module, &counts);
    const uint64_t *words = (const uint64_t *)global.address;
    const volatile uint32_t *loaded = (const volatile uint32_t *)(words + 1);
    if (counts.dlpi_adds == 0 || *loaded != counts.dlpi_adds - counts.dlpi_subs) return;
    uint32_t found = 0;
    cruntime_dynamic.added[1] = &constant;
    for (uint64_t i = 2; i < global.size / 8; i++) {
        if (words[i] != counts.dlpi_adds) continue;
        if (found == 2) return;
        cruntime_dynamic.added[found++] = &words[i];
    }
    if (found > 0) cruntime_dynamic.loaded = loaded;
}

__attribute__((constructor(101))) static void bind(void) {
    uint64_t vdso = cruntime_dynamic.vdso = getauxval(AT_SYSINFO_EHDR);
    cruntime_dynamic.clock_gettime = (cruntime_clock)symbol(vdso, "__vdso_clock_gettime");
    cruntime_dynamic.enter_enclave = look_up(vdso, "__vdso_sgx_enter_enclave");
    cruntime_dynamic.find_object = (cruntime_find)symbol(libc_base(), "_dl_find_object");
    find_generation();
}
#pragma clang attribute pop
