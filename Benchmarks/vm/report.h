// Results, for people and for programs.
#ifndef REPORT_H
#define REPORT_H

#include "compile.h"
#include "subject.h"

enum { COMPILED = 5 };

struct results {
    const struct subject *subjects;
    int count;
    double helper_ns;
    struct compilation programs[COMPILED][2];
    int compiled;
    struct compilation shapes[SHAPES][2];
};

void print_table(const struct results *);
void print_json(const struct results *);

#endif
