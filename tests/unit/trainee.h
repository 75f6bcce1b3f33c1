/*
 * For tests: a channel in a directory of its own, and programs that run as its trainer, each in a child process.
 *
 * The parent plays the agent.  Children die with the test; every wait has a deadline and fails the test.
 */
#ifndef UNIT_TRAINEE_H
#define UNIT_TRAINEE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "trainer/channel.h"

struct trainee {
	char directory[64];
	char channel_path[128];
	char snapshot_path[128];
	char said_path[128]; /* standard error of the children goes here */
	struct channel *map; /* as the agent has it */
};

/* Make the directory and the channel.  resume_path may be NULL. */
void trainee_init(struct trainee *t, uint32_t source, uint64_t step, const char *resume_path);
void trainee_fini(struct trainee *t);

/* Run program(t) in a child whose environment names the channel; its exit status is what program returns. */
pid_t trainee_start(struct trainee *t, int (*program)(struct trainee *t));

/* Wait for the end of a child; its wait status. */
int trainee_wait(pid_t pid);

/* Start and wait. */
int trainee_run(struct trainee *t, int (*program)(struct trainee *t));

/* Wait until *word is not `not_this`. */
void trainee_await_word(const _Atomic uint32_t *word, uint32_t not_this);

/* Forget the trainer that was there: a new channel under the same name. */
void trainee_renew(struct trainee *t);

/* The bytes that children wrote to standard error so far; 0 when they were silent. */
size_t trainee_said(const struct trainee *t, char *out, size_t out_bytes);

/* The lock's futex word. */
uint32_t trainee_lock_word(const struct trainee *t);

/* CLOCK_MONOTONIC. */
uint64_t trainee_now_ms(void);

/* A seeded sequence of numbers (SplitMix64). */
uint64_t trainee_random(uint64_t *state);

/* A seed: HOLDFAST_TEST_SEED where it is set, else the default; printed. */
uint64_t trainee_seed(uint64_t otherwise);

#endif
