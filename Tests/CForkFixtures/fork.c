#include "cforkfixtures.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int32_t fork_run(void (*body)(void *), void *user) {
    pid_t pid = fork();
    if (pid == 0) {
        body(user);
        _exit(0);
    }
    return pid;
}

int32_t fork_kill(int32_t pid, uint32_t microseconds) {
    int status = 0;
    usleep(microseconds);
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0) {}
    return status;
}
