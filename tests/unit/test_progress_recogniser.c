/*
 * What is recognised in the output of training programs: their lines as they print them, with all that stands around
 * and between them; and that nothing else is.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/progress/lines.h"
#include "supervisor/progress/recogniser.h"
#include "tests/unit/samples.h"

#define SIGHTINGS_MAX 4096u

struct watch {
	struct recogniser r;
	struct lines lines;
	struct sighting seen[SIGHTINGS_MAX];
	size_t count;
};

static struct watch w;

static void on_line(void *context, const char *line, size_t length)
{
	struct watch *watch = context;
	struct sighting out[RECOGNISER_OUT];
	size_t count = recogniser_line(&watch->r, line, length, out);

	assert_true(count <= RECOGNISER_OUT);
	for (size_t i = 0; i < count && watch->count < SIGHTINGS_MAX; i++)
		watch->seen[watch->count++] = out[i];
}

static void begin_after(uint64_t after_step)
{
	recogniser_init(&w.r, NULL, after_step);
	lines_init(&w.lines);
	w.count = 0;
}

static void begin(void)
{
	begin_after(STEP_NONE);
}

static void print(const char *text)
{
	lines_feed(&w.lines, text, strlen(text), on_line, &w);
}

static void finish(void)
{
	struct sighting out[RECOGNISER_OUT];
	size_t count;

	lines_end(&w.lines, on_line, &w);
	count = recogniser_end(&w.r, out);
	for (size_t i = 0; i < count; i++)
		w.seen[w.count++] = out[i];
}

static const struct sighting *step_at(size_t index)
{
	size_t at = 0;

	for (size_t i = 0; i < w.count; i++)
		if (w.seen[i].kind == SIGHTING_STEP && at++ == index)
			return &w.seen[i];
	fail_msg("there is no sighting of a step %zu", index);
	return NULL;
}

/* The steps that were seen, as text. */
static void expect_steps(enum progress_format format, const char *wanted)
{
	char text[4096] = "";
	size_t used = 0;

	for (size_t i = 0; i < w.count && used < sizeof(text) - 32; i++) {
		const char *before = used > 0 ? " " : "";

		if (w.seen[i].kind == SIGHTING_STEP)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%llu", before,
			    (unsigned long long)w.seen[i].step);
		else
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%c", before,
			    w.seen[i].kind == SIGHTING_EVALUATION ? 'E' : 'e');
	}
	assert_string_equal(text, wanted);
	assert_int_equal(recogniser_format(&w.r), format);
}

static void expect_loss(size_t index, double loss)
{
	const struct sighting *s = step_at(index);

	assert_true((s->fields & FIELD_LOSS) != 0);
	if (!(s->loss == loss || (isnan(loss) && isnan(s->loss))))
		fail_msg("loss %g, and not %g", s->loss, loss);
}

/* --- formats ---------------------------------------------------------------------------------------------- */

static void nanogpt(void **unused)
{
	(void)unused;
	begin();
	print("tokens per iteration will be: 16,384\n"
	      "found vocab_size = 65 (inside data/shakespeare_char/meta.pkl)\n"
	      "number of parameters: 10.65M\n"
	      "num decayed parameter tensors: 26, with 10,740,096 parameters\n"
	      "using fused AdamW: True\n"
	      "step 0: train loss 4.2874, val loss 4.2823\n"
	      "iter 0: loss 4.2662, time 34633.12ms, mfu -100.00%\n"
	      "iter 10: loss 3.1462, time 19.93ms, mfu 18.69%\n"
	      "iter 20: loss 2.7320, time 20.10ms, mfu 18.68%\n"
	      "step 250: train loss 1.9653, val loss 2.0654\n"
	      "saving checkpoint to out-shakespeare-char\n"
	      "iter 250: loss 2.0370, time 3424.78ms, mfu 16.83%\n"
	      "iter 260: loss nan, time 20.01ms, mfu 17.01%\n");
	finish();
	expect_steps(PROGRESS_NANOGPT, "0 10 20 e 250 260");
	expect_loss(0, 4.2662);
	expect_loss(3, 2.0370);
	expect_loss(4, NAN);
	assert_int_equal(step_at(1)->duration_ns, 19930000);
}

static void megatron(void **unused)
{
	(void)unused;
	begin();
	print("training ...\n"
	      " [2026-01-31 10:00:01] iteration       10/     500 | consumed samples:          160 "
	      "| elapsed time per iteration (ms): 1403.5 | throughput per GPU (TFLOP/s/GPU): 45.1 "
	      "| learning rate: 3.000E-05 | global batch size:    16 | lm loss: 1.051E+01 | loss "
	      "scale: 1.0 | grad norm: 12.345 | number of skipped iterations:   0 | number of nan "
	      "iterations:   0 |\n"
	      " iteration       20/     500 | consumed samples:          320 | elapsed time per "
	      "iteration (ms): 1400.0 | learning rate: 6.000E-05 | global batch size:    16 | lm "
	      "loss: nan | loss scale: 1.0 | grad norm: inf | number of skipped iterations:   0 | "
	      "number of nan iterations:   1 |\n"
	      "------------------------------------------------------------\n"
	      " validation loss at iteration 20 | lm loss value: 9.1E+00 | lm loss PPL: 9.3E+03 |\n"
	      "------------------------------------------------------------\n"
	      " iteration       30/     500 | consumed samples:          480 | elapsed time per "
	      "iteration (ms): 1400.0 | learning rate: 9.000E-05 | global batch size:    16 | lm "
	      "loss: 8.1E+00 | loss scale: 1.0 | grad norm: 3.0 | number of skipped iterations:   "
	      "0 | number of nan iterations:   0 |\n");
	finish();
	expect_steps(PROGRESS_MEGATRON, "10 20 30");
	expect_loss(0, 10.51);
	assert_true(step_at(0)->grad_norm == 12.345);
	assert_true(step_at(0)->learning_rate == 3e-5);
	assert_int_equal(step_at(0)->duration_ns, 1403500000);
	expect_loss(1, NAN);
	assert_true(isinf(step_at(1)->grad_norm));
}

static void keys(void **unused)
{
	(void)unused;
	begin();
	print("config: lr=0.1 batch=32\n"
	      "2026-01-31 10:00:01,123 INFO train.py:88 step=1 loss=0.9000 grad_norm=1.50 lr=1e-3 "
	      "time_ms=12.5\n"
	      "\033[32m2026-01-31 10:00:02\033[0m | \033[1mstep=2\033[0m loss=\033[33m0.8\033[0m "
	      "tokens=4096\n"
	      "step=3 loss=-inf\n"
	      "resumed from step=1 of another run, best loss=0.1\n"
	      "step=4 loss=0.6 val_loss=0.7\n");
	finish();
	expect_steps(PROGRESS_KEYS, "1 2 3 e 4");
	expect_loss(0, 0.9);
	assert_true(step_at(0)->grad_norm == 1.5 && step_at(0)->learning_rate == 1e-3);
	assert_int_equal(step_at(1)->tokens, 4096);
	assert_true(step_at(2)->loss == -INFINITY);
}

static void words(void **unused)
{
	(void)unused;
	begin();
	print("step 60 loss 1.25 lr 0.01\nStep 120, Loss: 1.2 (1.22)\n[Epoch 1, Step 1,180] "
	      "training loss: 1.1\n");
	finish();
	expect_steps(PROGRESS_WORDS, "60 120 1180");
	expect_loss(1, 1.2);
	expect_loss(2, 1.1);
	begin();
	print(
	    "Epoch: [0][   0/5005]\tTime  6.1 ( 6.1)\tData  5.5 ( 5.5)\tLoss 7.0e+00 (7.0e+00)\n"
	    "Epoch: [0][  10/5005]\tTime  0.1 ( 0.7)\tData  0.0 ( 0.5)\tLoss 6.9e+00 (7.0e+00)\n"
	    "Test: [  0/196]\tTime  3.1 ( 3.1)\tLoss 6.8e+00 (6.8e+00)\n"
	    "Epoch: [1][   0/5005]\tTime  6.1 ( 6.1)\tData  5.5 ( 5.5)\tLoss 6.5e+00 (6.5e+00)\n");
	finish();
	expect_steps(PROGRESS_WORDS, "0 10 5005");
	begin();
	print("Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.30\nTrain Epoch: 1 [640/60000 (1%)]\tLoss: "
	      "2.27\n");
	finish();
	expect_steps(PROGRESS_WORDS, "60000 60640");
}

static void json_lines(void **unused)
{
	(void)unused;
	begin();
	print("{\"event\": \"start\", \"step\": 0}\n"
	      "{\"step\": 10, \"loss\": 0.5, \"grad_norm\": 1.25, \"lr\": 0.001}\n"
	      "{\"train/loss\": 0.25, \"trainer/global_step\": 20, \"_timestamp\": 1769853601.5}\n"
	      "{\"step\": 30, \"loss\": NaN}\n"
	      "{\"step\": 30, \"eval_loss\": 0.5}\n"
	      "{\"step\": 40, \"loss\": null}\n"
	      "{'step': '50', 'loss': '0.1'}\n");
	finish();
	expect_steps(PROGRESS_JSON, "10 20 30 e 50");
	assert_true(step_at(0)->grad_norm == 1.25);
	expect_loss(1, 0.25);
	expect_loss(2, NAN);
	expect_loss(3, 0.1);
}

static void lightning(void **unused)
{
	(void)unused;
	begin();
	print("Sanity Checking DataLoader 0: 100%|██████████| 2/2 [00:00<00:00, 35.05it/s]\r"
	      "                                                                           \r"
	      "Training: |          | 0/? [00:00<?, ?it/s]\r"
	      "Epoch 0:   0%|          | 0/120 [00:00<?, ?it/s] \r"
	      "Epoch 0:   1%|          | 1/120 [00:00<00:10, 10.9it/s, loss=0.9, v_num=3]\r"
	      "Epoch 0:  10%|█         | 12/120 [00:01<00:10, 10.9it/s, loss=0.53, v_num=3]\r"
	      "Epoch 0:  10%|█         | 12/120 [00:01<00:10, 10.9it/s, loss=0.53, v_num=3]\r"
	      "Validation: |          | 0/? [00:00<?, ?it/s]\033[A\n"
	      "Validation DataLoader 0:  50%|█████     | 5/10 [00:00<00:00, 35.05it/s]\033[A\r"
	      "Validation DataLoader 0: 100%|██████████| 10/10 [00:00<00:00, 35.05it/s]\033[A\r"
	      "Epoch 0: 100%|██████████| 120/120 [00:11<00:00, 10.9it/s, loss=0.4, v_num=3]\r"
	      "Epoch 1:   3%|▎         | 4/120 [00:00<00:10, 10.9it/s, loss=nan, v_num=3]\r");
	finish();
	expect_steps(PROGRESS_BAR, "1 12 E 120 124");
	expect_loss(1, 0.53);
	expect_loss(3, NAN);
}

static void bars(void **unused)
{
	(void)unused;
	/* An outer bar over epochs beside the inner one, which begins again; downloads and preparations before. */
	begin();
	print("Downloading: 100%|██████████| 26.4M/26.4M [00:01<00:00, 20.1MB/s]\r"
	      "Map:  50%|█████     | 500/1000 [00:00<00:00, 9000 examples/s]\r"
	      "Map: 100%|██████████| 1000/1000 [00:00<00:00, 9000 examples/s]\n"
	      "Loading checkpoint shards: 50%|#####     | 1/2 [00:00<00:00, 2.1it/s]\n"
	      "Epochs:   0%|          | 0/3 [00:00<?, ?it/s]\n"
	      "loss 0.90:  25%|##5       | 1/4 [00:00<00:00, 9.1it/s]\r"
	      "loss 0.80:  50%|#####     | 2/4 [00:00<00:00, 9.1it/s]\r"
	      "loss 0.70: 100%|##########| 4/4 [00:00<00:00, 9.1it/s]\n"
	      "Epochs:  33%|###3      | 1/3 [00:01<00:02, 1.0s/it]\n"
	      "loss 0.60:  25%|##5       | 1/4 [00:00<00:00, 9.1it/s]\r"
	      "loss 0.50:  75%|#######5  | 3/4 [00:00<00:00, 9.1it/s]\r");
	finish();
	expect_steps(PROGRESS_BAR, "1 2 4 5 7");
	expect_loss(2, 0.7);
	expect_loss(4, 0.5);
	/* One that does not say its epoch goes on where the attempt does. */
	begin_after(9);
	print(" 25%|##5       | 1/4 [00:00<00:00, 9.1it/s, loss=0.5]\r 50%|#####     | 2/4 "
	      "[00:00<00:00, 9.1it/s, loss=0.4]\r");
	finish();
	expect_steps(PROGRESS_BAR, "9 10");
	/* Without an end. */
	begin();
	print("train: 1it [00:00, 9.1it/s, loss=0.5]\rtrain: 7it [00:01, 9.1it/s, loss=0.4]\r");
	finish();
	expect_steps(PROGRESS_BAR, "1 7");
}

/* --- values and a bar beside them ------------------------------------------------------------------------- */

static void trainer_with_a_bar(void **unused)
{
	(void)unused;
	begin();
	print("  0%|          | 0/60 [00:00<?, ?it/s]\r"
	      "  2%|▏         | 1/60 [00:00<00:12,  4.7it/s]\r"
	      " 15%|█▌        | 9/60 [00:01<00:10,  4.7it/s]\r"
	      " 17%|█▋        | 10/60 [00:02<00:10,  4.7it/s]\r"
	      "                                               \r"
	      "{'loss': 2.5, 'grad_norm': 1.25, 'learning_rate': 4.5e-05, 'epoch': 0.5}\n"
	      "\r 17%|█▋        | 10/60 [00:02<00:10,  4.7it/s]\r"
	      " 18%|█▊        | 11/60 [00:02<00:10,  4.7it/s]\r"
	      "\r  0%|          | 0/5 [00:00<?, ?it/s]\033[A\r"
	      " 60%|██████    | 3/5 [00:00<00:00, 30.2it/s]\033[A\r"
	      "{'eval_loss': 2.4, 'eval_runtime': 0.2, 'epoch': 0.5}\n"
	      " 20%|██        | 12/60 [00:03<00:10,  4.7it/s]\r"
	      /* Its drawing is seen before what was printed first: it is the one of the values all the same. */
	      "                                               \r"
	      " 33%|███▎      | 20/60 [00:04<00:10,  4.7it/s]\r"
	      "{'loss': 'nan', 'grad_norm': '3.5', 'learning_rate': '4e-05', 'epoch': '1'}\n"
	      " 35%|███▌      | 21/60 [00:04<00:10,  4.7it/s]\r"
	      "{'train_runtime': 12.3, 'train_steps_per_second': 4.8, 'train_loss': 1.9, 'epoch': "
	      "3.0}\n");
	finish();
	expect_steps(PROGRESS_TRAINER, "10 E 11 12 20 21");
	expect_loss(0, 2.5);
	assert_true(step_at(0)->grad_norm == 1.25 && step_at(0)->learning_rate == 4.5e-5);
	assert_int_equal(step_at(1)->fields, 0);
	expect_loss(3, NAN);
	assert_int_equal(step_at(4)->fields, 0);
}

/* Drawn ten times a second: the last drawing is of long before, and the next is of the values' step. */
static void trainer_in_a_hurry(void **unused)
{
	(void)unused;
	begin();
	print(" 80%|████████  | 400/500 [00:00<00:00, 1041.7it/s]\r"
	      "                                               \r"
	      "{'loss': 2.5, 'grad_norm': 1.25, 'learning_rate': 4.5e-05, 'epoch': 0.5}\n"
	      "\r 90%|█████████ | 450/500 [00:00<00:00, 1041.7it/s]\r"
	      "                                               \r"
	      "{'loss': 2.4, 'grad_norm': 1.25, 'learning_rate': 4.5e-05, 'epoch': 1.0}\n"
	      "\r100%|██████████| 500/500 [00:00<00:00, 1041.7it/s]\r");
	finish();
	expect_steps(PROGRESS_TRAINER, "400 450 500");
	assert_int_equal(step_at(0)->fields, 0);
	expect_loss(1, 2.5);
	expect_loss(2, 2.4);
}

static void trainer_without_a_bar(void **unused)
{
	(void)unused;
	begin();
	print("Map: 100%|██████████| 1000/1000 [00:00<00:00, 9000 examples/s]\n"
	      "{'loss': 2.5, 'grad_norm': 1.25, 'learning_rate': 4.5e-05, 'epoch': 0.1}\n"
	      "{'eval_loss': 2.4, 'eval_runtime': 0.2, 'epoch': 0.1}\n"
	      "{'loss': 2.4, 'grad_norm': 1.25, 'learning_rate': 4.4e-05, 'epoch': 0.25}\n"
	      "{'loss': 2.3, 'grad_norm': 1.25, 'learning_rate': 4.3e-05, 'epoch': 1.0}\n");
	finish();
	expect_steps(PROGRESS_TRAINER, "e 1000 2500 10000");
	expect_loss(0, 2.5);
	expect_loss(2, 2.3);
}

/* --- numbers that go up ----------------------------------------------------------------------------------- */

static void a_counter_that_begins_again(void **unused)
{
	(void)unused;
	begin();
	print("epoch=0 step=1 loss=9\nepoch=0 step=2 loss=8\nepoch=1 step=1 loss=7\nepoch=1 step=2 "
	      "loss=6\n"
	      "epoch=2 step=0 loss=5\n");
	finish();
	expect_steps(PROGRESS_KEYS, "1 2 3 4 5");
	/* Without an epoch it takes three lines to believe it; a stray one changes nothing. */
	begin();
	print("step 10 loss 9\nstep 20 loss 8\nstep 5 loss 7\nstep 30 loss 6\nstep 1 loss 5\nstep "
	      "2 loss 4\nstep 3 loss 3\nstep 4 loss 2\n");
	finish();
	expect_steps(PROGRESS_WORDS, "10 20 30 33 34");
}

static void the_same_again(void **unused)
{
	(void)unused;
	begin();
	print("step 1 loss 3\nstep 2 loss 2\nstep 2 loss 2\nstep 2 loss nan\nstep 3 loss 1\n");
	finish();
	expect_steps(PROGRESS_WORDS, "1 2 2 3");
	expect_loss(2, NAN);
}

/* --- what is nothing -------------------------------------------------------------------------------------- */

static void one_format_and_no_other(void **unused)
{
	(void)unused;
	begin();
	print(
	    "step=1 loss=3\n{\"step\": 7, \"loss\": 1}\niter 50: loss 2.0, time 3ms\nstep=2 "
	    "loss=2\n"
	    "iter 60: loss 2.0, time 3ms\niter 70: loss 2.0, time 3ms\n{\"step\": 9, \"loss\": 1}\n"
	    " 50%|#####     | 500/1000 [00:00<00:00, 9.1it/s, loss=0.4]\rstep=3 loss=1\n");
	finish();
	expect_steps(PROGRESS_KEYS, "1 2 3");
	/* One line is none yet. */
	begin();
	print("restored: step 400, loss 0.5\nstep=1 loss=3\nstep=2 loss=2\nstep=3 loss=1\n");
	finish();
	expect_steps(PROGRESS_KEYS, "1 2 3");
}

static void nothing_of_it_is_progress(void **unused)
{
	static const char *const lines[] = {"", "\n", "loss 3", "step 3", "loss: 1 step",
	    "total steps 1000 loss 3", "saving every 500 steps, last loss 0.4", "step_time=3 loss=4",
	    "val_loss=3 step=5", "eval step 5 loss 3", "{'train_loss': 3}", "| 12/120 [", "%|",
	    "5%||", "it [", "99it [", "loss step", "step=loss=", "step=-1 loss=2",
	    "step=1.5 loss=2", "nan loss nan step nan", "step 99999999999999999999 loss 1",
	    "5%|    | 1/2 ", "Sanity 5%|    | 1/9 [0, loss=1]", NULL};

	(void)unused;
	begin();
	for (unsigned round = 0; round < 4; round++)
		for (size_t i = 0; lines[i] != NULL; i++) {
			print(lines[i]);
			print("\n");
		}
	finish();
	expect_steps(PROGRESS_NONE, "");
}

/* Bytes of which many make sense, in any order; and however they are torn, the same is seen. */
static void any_bytes_in_any_pieces(void **unused)
{
	static const char *const parts[] = {"step", "=", " ", "loss", "1", "23", "\n", "\r", "iter ",
	    ": loss ", ", time 3ms", "{'loss': 1, 'epoch': 2.5, 'lr': 1}", "%|", "| 12/120 [",
	    "it [", "\033[1m", "nan", "-inf", "epoch", "[", "]", "/", ",", "\"step\": 5", "lm ",
	    "grad_norm", "(ms)", "\t", "{", "elapsed time per iteration (ms): 3 |",
	    " 50%|#| 5/9 [0<0, 3it/s, loss=2]\r", "9999999999", "e5"};
	static char text[65536];
	static struct sighting whole[SIGHTINGS_MAX];
	uint64_t seed = sample_seed(12), steps = 0;

	(void)unused;
	for (unsigned round = 0; round < 300; round++) {
		size_t length = 0, count;

		while (length < sizeof(text) - 128) {
			uint64_t dice = sample_random(&seed);

			if (dice % 8 == 0) {
				text[length++] = (char)(dice >> 10);
				continue;
			}
			const char *part = parts[(dice >> 10) % (sizeof(parts) / sizeof(parts[0]))];

			memcpy(text + length, part, strlen(part));
			length += strlen(part);
		}
		begin();
		lines_feed(&w.lines, text, length, on_line, &w);
		finish();
		count = w.count;
		memcpy(whole, w.seen, count * sizeof(whole[0]));
		for (size_t i = 1; i < count; i++)
			steps += whole[i].kind == SIGHTING_STEP;
		begin();
		for (size_t at = 0; at < length;) {
			size_t piece = 1 + sample_random(&seed) % (round % 2 ? 7 : 9000);

			if (piece > length - at)
				piece = length - at;
			lines_feed(&w.lines, text + at, piece, on_line, &w);
			at += piece;
		}
		finish();
		assert_int_equal(w.count, count);
		assert_memory_equal(w.seen, whole, count * sizeof(whole[0]));
	}
	printf("%llu steps\n", (unsigned long long)steps);
	assert_true(steps > 100); /* the noise is such that something is recognised in it */
}

/* Lines of a megabyte, all of one kind: looked at as far as they are kept, and never for long. */
static void megabyte_lines(void **unused)
{
	static const char *const units[] = {
	    "x", "step=1 loss=2 ", "a_", "%|", "[", "((((", "\"", "1,", "loss ", "\033[", " "};
	static char text[1u << 20];

	(void)unused;
	begin();
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t unit = strlen(units[i]);

		for (size_t at = 0; at + unit < sizeof(text); at += unit)
			memcpy(text + at, units[i], unit);
		text[sizeof(text) - 2] = '\n';
		for (unsigned round = 0; round < 8; round++)
			lines_feed(&w.lines, text, sizeof(text) - 1, on_line, &w);
	}
	print("step=1 loss=1\nstep=2 loss=1\n");
	finish();
	assert_true(w.lines.cut_count >= 8);
	assert_int_equal(step_at(w.count - 1)->step, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(nanogpt),
	    cmocka_unit_test(megatron),
	    cmocka_unit_test(keys),
	    cmocka_unit_test(words),
	    cmocka_unit_test(json_lines),
	    cmocka_unit_test(lightning),
	    cmocka_unit_test(bars),
	    cmocka_unit_test(trainer_with_a_bar),
	    cmocka_unit_test(trainer_in_a_hurry),
	    cmocka_unit_test(trainer_without_a_bar),
	    cmocka_unit_test(a_counter_that_begins_again),
	    cmocka_unit_test(the_same_again),
	    cmocka_unit_test(one_format_and_no_other),
	    cmocka_unit_test(nothing_of_it_is_progress),
	    cmocka_unit_test(any_bytes_in_any_pieces),
	    cmocka_unit_test(megabyte_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
