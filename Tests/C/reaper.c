// A subreaper whose one child must be the only one that it ever waits for. Prints what it is after exec, too: "reaper N", "child N".
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1) {
        // Before the exec: becomes a subreaper, which lasts.
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        setenv("LD_PRELOAD", argv[1], 1);
        execl(argv[0], argv[0], (char *)0);
        return 1;
    }
    int reaps = 0, children = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &reaps, 0, 0, 0);
    if (fork() == 0) _exit(0);
    while (wait(NULL) > 0) children++;
    printf("reaper %d, children %d\n", reaps, children);
    return 0;
}
