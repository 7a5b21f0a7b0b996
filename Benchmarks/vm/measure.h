// Times.
#ifndef MEASURE_H
#define MEASURE_H

#include "subject.h"

enum { ROUNDS = 11 };

/// Times a program on every engine.
void measure(struct subject *);
/// ns for a helper call, net of the loop around it.
double helper_call(void);

#endif
