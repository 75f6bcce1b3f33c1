/*
 * The supervisor: one per run, the only writer of the journal.  Its callbacks decode and post; deciding is
 * the policy's, doing is the agents'.  It may die at any instruction: its successor folds the journal.
 */
#ifndef SUPERVISOR_SUPERVISOR_H
#define SUPERVISOR_SUPERVISOR_H

/*
 * `holdfast supervisor --dir DIR --fd N`: serve the agent connected at descriptor N.
 * Returns	0 when the run ended or the agent is gone; 75 or 78 with one line on standard error when the
 *		journal cannot be opened; 70 when this build cannot go on with it.
 */
int supervisor_main(int argc, char **argv);

#endif
