// until: measures the time to the moment when a container's program runs, and adds next to nothing to it.
//
//   until FIFO COMMAND...   starts the command, and ends as soon as something is written to FIFO
//   until --tell FIFO       the program: writes to FIFO, and sleeps
//
// Build: gcc -O2 -static -o until until.c
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char byte = 0;
    if (argc == 3 && !strcmp(argv[1], "--tell")) {
        int fifo = open(argv[2], O_WRONLY);
        if (write(fifo, "x", 1) != 1) return 1;
        close(fifo);
        return sleep(1000) != 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: until FIFO COMMAND... | until --tell FIFO\n");
        return 2;
    }
    pid_t pid = vfork();
    if (pid == 0) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    return pid < 0 || read(open(argv[1], O_RDONLY), &byte, 1) != 1;
}
