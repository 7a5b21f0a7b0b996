// What the storm `plugin` loads and unloads.
#include <stdlib.h>

__attribute__((visibility("default"), noinline)) int plugin_work(int value)
{
	int *block = malloc(sizeof *block);
	if (!block)
		return -1;
	*block = value * 3 + 1;
	int result = *block;
	free(block);
	return result;
}
