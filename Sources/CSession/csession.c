#include "csession.h"

_Static_assert(sizeof(struct csession_map) == 128, "layout");
_Static_assert(__builtin_offsetof(struct csession_shared, owner) == 64, "layout");
_Static_assert(sizeof(struct csession_program) == 80, "layout");
_Static_assert(sizeof(struct csession_site) == 88, "layout");
_Static_assert(sizeof(struct csession_plan) == 112, "layout");
_Static_assert(sizeof(struct csession_fixup) == 16, "layout");
_Static_assert(sizeof(struct csession_probe) == 16, "layout");
_Static_assert(sizeof(struct csession_module) == 512, "layout");
_Static_assert(sizeof(struct csession_message) == 136, "layout");
