// What libbpf makes of an object's CO-RE relocations: core OBJECT [TYPES]. Prints libbpf's log; relocation comes before programs
// are loaded, so that it does not matter whether this kernel takes them.
#include <bpf/libbpf.h>
#include <stdio.h>

static int print(enum libbpf_print_level level, const char *format, va_list arguments) {
    (void)level;
    return vprintf(format, arguments);
}

int main(int count, char **words) {
    if (count < 2) return 64;
    libbpf_set_print(print);
    LIBBPF_OPTS(bpf_object_open_opts, options, .btf_custom_path = count > 2 ? words[2] : NULL);
    struct bpf_object *object = bpf_object__open_file(words[1], &options);
    if (!object) return 65;
    struct bpf_map *map;
    bpf_object__for_each_map(map, object) bpf_map__set_autocreate(map, false);
    struct bpf_program *program;
    bpf_object__for_each_program(program, object) bpf_program__set_autoload(program, true);
    (void)bpf_object__load(object);
    bpf_object__close(object);
    return 0;
}
