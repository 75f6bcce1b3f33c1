/*
 * How many ranks a machine is good for: its processors, and its accelerators as a Python interpreter's torch
 * counts them, which is what the ranks will see.
 */
#ifndef CLI_DEVICES_H
#define CLI_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

/* Processors that this process may use; at least 1. */
uint32_t devices_cpu_count(void);

/*
 * Ask an interpreter: starts it, waits for at most two minutes, and ends it then.
 * python	the interpreter, looked for in PATH.
 * kind		"auto": any accelerator; "gpu": torch.cuda; else the name of a module of torch, such as "xpu".
 * Returns false when it gives no answer (it cannot be started, or has no torch); 0 is an answer.
 */
bool devices_count(const char *python, const char *kind, uint32_t *count_out);

#endif
