/* The first process of the emulated machine: runs the program named in /arguments (one argument a line; lines that come
 * before it and have the form NAME=value are its environment), prints its exit status, and switches off.
 *
 * Everything runs first-in-first-out on the one processor: the emulator cannot tell the kernel that a process began to
 * use tiles, so the kernel does not keep them when it takes the processor from a thread (docs/amx.md). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  static char text[4096];
  char* arguments[64];
  int count = 0, status = -1;
  const struct sched_param priority = {.sched_priority = 1};
  mount("proc", "/proc", "proc", 0, NULL);
  mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
  const int file = open("/arguments", O_RDONLY);
  if (file < 0 || read(file, text, sizeof text - 1) <= 0) perror("/arguments");
  for (char* line = strtok(text, "\n"); line != NULL && count < 63; line = strtok(NULL, "\n")) {
    if (count == 0 && line[0] != '/')
      putenv(line);
    else
      arguments[count++] = line;
  }
  arguments[count] = NULL;
  if (sched_setscheduler(0, SCHED_FIFO, &priority) != 0) perror("sched_setscheduler");
  const pid_t child = fork();
  if (child == 0) {
    execv(arguments[0], arguments);
    perror(arguments[0]);
    _exit(127);
  }
  while (wait(&status) != child) {
  }
  printf("\nemulated: exit status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  fflush(stdout);
  sync();
  sleep(1);
  reboot(RB_POWER_OFF);
  return 1;
}
