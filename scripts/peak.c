// peak: runs a command, and prints how much memory the largest of its processes used, in KiB (getrusage(2), ru_maxrss).
//
// Build: gcc -O2 -static -o peak peak.c
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct rusage used;
    int status;
    if (argc < 2) return 2;
    // vfork: a copy of this process would count as one of the command's.
    pid_t pid = vfork();
    if (pid == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &used) < 0 || status) return 1;
    printf("%ld\n", used.ru_maxrss);
    return 0;
}
