/*
 * `holdfast helper-evidence`: takes one rank's evidence and writes the raw text to standard output.
 *
 *	holdfast helper-evidence --pid P [--tid T] --kind N [--out PATH] [--err PATH] [--recorded PATH]
 *		[--deadline-ms D]
 *
 * Started by the agent with a pipe or a memfd as standard output.  At its deadline it writes what it has,
 * says "Timer expired" on standard error and ends with status 1.  Whatever ends it, the kernel then lets go
 * of every thread that it had stopped: it attaches with PTRACE_SEIZE and without PTRACE_O_EXITKILL.
 */
#ifndef EVIDENCE_EVIDENCE_H
#define EVIDENCE_EVIDENCE_H

/* argv[0] is "helper-evidence". Returns 0; 1 with the errno's text on standard error (the text may then be
 * incomplete); 64 when the words are off. */
int evidence_main(int argc, char **argv);

#endif
