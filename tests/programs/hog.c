/* Takes memory and writes to it until it is stopped: 64 MiB at most, should nothing stop it. */
#include <stdlib.h>
#include <string.h>

int main(void)
{
	for (int i = 0; i < 64; i++) {
		char *block = malloc(1 << 20);
		if (!block)
			return 1;
		memset(block, 1, 1 << 20);
	}
	return 2;
}
