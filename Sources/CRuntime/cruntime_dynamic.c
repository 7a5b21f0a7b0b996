// Functions of the vDSO and of the dynamic loader, taken from there and nowhere else: a name that is bound in the usual way means the
// program's own function of that name where it has one, and a hit must not run that.
#define _GNU_SOURCE
#include "cruntime_dynamic.h"

#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <sys/auxv.h>

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

static uint64_t symbol(uint64_t base, const char *name) {
    if (base == 0) return 0;
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
    if (symbols == NULL || names == NULL) return 0;
    uint64_t count = symbol_count(hash, gnu);
    for (uint64_t i = 1; i < count; i++)
        if (symbols[i].st_shndx != SHN_UNDEF && same(names + symbols[i].st_name, name))
            return base + symbols[i].st_value;
    return 0;
}

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

__attribute__((constructor(101))) static void bind(void) {
    cruntime_dynamic.clock_gettime = (cruntime_clock)symbol(getauxval(AT_SYSINFO_EHDR), "__vdso_clock_gettime");
    cruntime_dynamic.find_object = (cruntime_find)symbol(libc_base(), "_dl_find_object");
}
