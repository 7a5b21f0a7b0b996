// How long compiling takes.
#ifndef COMPILE_H
#define COMPILE_H

#include "subject.h"

struct compilation {
    const char *name;
    size_t instructions;
    size_t bytes;
    double microseconds;
};

enum { SHAPES = 11 };

/// Programs of shapes where compilers become slow, unchecked and checked.
void compile_shapes(struct compilation results[SHAPES][2]);
/// A benchmark program, unchecked and checked.
void compile_program(const char *name, const struct build *, struct compilation results[2]);

#endif
