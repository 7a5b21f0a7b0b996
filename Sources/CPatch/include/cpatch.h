// What runs at a probe before Swift does: trampolines, return stubs and their unwind information, patch protocols.
#ifndef CPATCH_H
#define CPATCH_H

#include <stdint.h>

#include "cruntime.h"

#endif
