/*
 * The failure is found in what Python 3.11 and PyTorch 1.13 and 2.13 print, and nothing is found in what only looks
 * like it.  The samples are what they printed; paths and the number of frames are shortened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/cli/failure.h"
#include "supervisor/cli/traceback.h"
#include "tests/unit/samples.h"

#define HEAD "Traceback (most recent call last):\n"
#define TRAIN                                                                                      \
	HEAD "  File \"/home/u/train.py\", line 42, in <module>\n    main()\n"                     \
	     "  File \"/home/u/train.py\", line 31, in main\n    loss = step(batch)\n"             \
	     "           ^^^^^^^^^^^\n"
#define PLAIN TRAIN "ValueError: loss went wrong\n"
#define GLOO                                                                                       \
	HEAD "  File \"/home/u/train.py\", line 6, in <module>\n    d.all_reduce(t)\n"             \
	     "  File \"/usr/lib/python3/dist-packages/torch/distributed/distributed_c10d.py\", "   \
	     "line 1541, "                                                                         \
	     "in all_reduce\n    work.wait()\n"                                                    \
	     "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:598] Connection "      \
	     "closed by peer "                                                                     \
	     "[127.0.0.1]:32179\n"
#define LOADER                                                                                     \
	HEAD "  File \"train.py\", line 6, in <module>\n    for x in DataLoader(D(), "             \
	     "num_workers=1): pass\n"                                                              \
	     "  File \"/v/lib/python3.11/site-packages/torch/_utils.py\", line 794, in reraise\n"  \
	     "    raise exception\n"                                                               \
	     "ValueError: Caught ValueError in DataLoader worker process 0.\n"                     \
	     "Original Traceback (most recent call last):\n"                                       \
	     "  File \"/v/lib/python3.11/site-packages/torch/utils/data/_utils/worker.py\", line " \
	     "374, in "                                                                            \
	     "_worker_loop\n    data = fetcher.fetch(index)\n           ^^^^^^^^^^^^^^^^^^^^\n"    \
	     "  File \"data.py\", line 5, in __getitem__\n    raise ValueError(\"bad sample\")\n"  \
	     "ValueError: bad sample 0\n\n"
#define SPAWN                                                                                      \
	HEAD "  File \"run.py\", line 3, in <module>\n    mp.spawn(f, nprocs=1)\n"                 \
	     "torch.multiprocessing.spawn.ProcessRaisedException: \n\n"                            \
	     "-- Process 0 terminated with the following error:\n" HEAD                            \
	     "  File \"/v/site-packages/torch/multiprocessing/spawn.py\", line 87, in _wrap\n"     \
	     "    fn(i, *args)\n  File \"run.py\", line 2, in f\n    raise "                       \
	     "IndexError(\"spawned\")\n"                                                           \
	     "IndexError: spawned\n"
#define REMOTE                                                                                     \
	"concurrent.futures.process._RemoteTraceback: \n\"\"\"\n" HEAD                             \
	"  File \"/usr/lib/python3.11/concurrent/futures/process.py\", line 261, in "              \
	"_process_worker\n"                                                                        \
	"    r = call_item.fn()\n  File \"pool.py\", line 2, in f\n    raise "                     \
	"ValueError(\"remote\")\n"                                                                 \
	"ValueError: remote\n\"\"\"\n\n"                                                           \
	"The above exception was the direct cause of the following exception:\n\n" TRAIN           \
	"ValueError: last\n"
#define CHAIN(sentence)                                                                            \
	HEAD "  File \"ch.py\", line 4, in main\n    load(\"x\")\n"                                \
	     "  File \"ch.py\", line 2, in load\n    raise KeyError(\"layer.0.weight\")\n"         \
	     "KeyError: 'layer.0.weight'\n\n" sentence "\n\n" TRAIN                                \
	     "RuntimeError: cannot load\nsecond line: of it\n"
#define CAUSE "The above exception was the direct cause of the following exception:"
#define HANDLING "During handling of the above exception, another exception occurred:"
#define IGNORED                                                                                    \
	"Exception ignored in: <function A.__del__ at 0x7f92508f1800>\n" HEAD                      \
	"  File \"late.py\", line 4, in __del__\nRuntimeError: late\n"
#define THREAD                                                                                     \
	"Exception in thread Thread-1 (watch):\n" HEAD                                             \
	"  File \"/usr/lib/python3.11/threading.py\", line 1045, in _bootstrap_inner\n    "        \
	"self.run()\n"                                                                             \
	"OSError: [Errno 9] Bad file descriptor\n"
#define WORKER                                                                                     \
	"Process SpawnProcess-3:\n" HEAD                                                           \
	"  File \"worker.py\", line 9, in loop\n    q.get()\nKeyboardInterrupt\n"
#define INTERRUPTED TRAIN "KeyboardInterrupt\n"
#define FATAL                                                                                      \
	"Fatal Python error: Segmentation fault\n\n"                                               \
	"Thread 0x00007f88b0000640 (most recent call first):\n"                                    \
	"  File \"/usr/lib/python3.11/threading.py\", line 320 in wait\n"                          \
	"  File \"other.py\", line 3 in run\n\n"                                                   \
	"Current thread 0x00007f88b829fb80 (most recent call first):\n"                            \
	"  File \"/usr/lib/python3.11/ctypes/__init__.py\", line 519 in string_at\n"               \
	"  File \"fl.py\", line 2 in crash\n  File \"fl.py\", line 3 in <module>\n"
#define MODULES "\nExtension modules: numpy.core._multiarray_umath, torch._C (total: 20)\n"
#define SYNTAX "  File \"syn.py\", line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax\n"
#define GROUP                                                                                      \
	"  + Exception Group Traceback (most recent call last):\n"                                 \
	"  |   File \"g.py\", line 9, in <module>\n  |     asyncio.run(main())\n"                  \
	"  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n"                  \
	"  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n"     \
	"    |   File \"g.py\", line 3, in work\n    |     raise TypeError(\"inner\")\n"           \
	"    | TypeError: inner\n    +------------------------------------\n"
#define TERMINATE                                                                                  \
	"terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: "     \
	"unspecified\n"                                                                            \
	"Exception raised from c10_cuda_check at ../c10/cuda/CUDAException.cpp:44\n"

struct sample {
	const char *text;
	const char *type, *message, *file, *own_file; /* type NULL: nothing is found */
	uint32_t line, own_line;
	bool follows;
};

static const struct sample samples[] = {
    {PLAIN, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {TRAIN "AssertionError\n", "AssertionError", "", "/home/u/train.py", "", 31, 0, false},
    {TRAIN "AssertionError\nother output\n", "AssertionError", "", "/home/u/train.py", "", 31, 0, false},
    {TRAIN "ValueError: cut off here", "ValueError", "cut off here", "/home/u/train.py", "", 31, 0,
	false},
    {TRAIN "my.pkg.LossError: \nNaN at step 7\n", "my.pkg.LossError", "NaN at step 7",
	"/home/u/train.py", "", 31, 0, false},
    {GLOO, "RuntimeError", "[../third_party/gloo/gloo/transport/tcp/pair.cc:598] Connection closed by peer [127.0.0.1]:32179",
	"/usr/lib/python3/dist-packages/torch/distributed/distributed_c10d.py", "/home/u/train.py",
	1541, 6, true},
    {LOADER, "ValueError", "bad sample 0", "data.py", "", 5, 0, false},
    {SPAWN, "IndexError", "spawned", "run.py", "", 2, 0, false},
    {REMOTE, "ValueError", "remote", "pool.py", "", 2, 0, false},
    {CHAIN(CAUSE), "KeyError", "'layer.0.weight'", "ch.py", "", 2, 0, false},
    {CHAIN(HANDLING), "KeyError", "'layer.0.weight'", "ch.py", "", 2, 0, false},
    {FATAL, "Fatal Python error", "Segmentation fault", "/usr/lib/python3.11/ctypes/__init__.py",
	"fl.py", 519, 2, false},
    {FATAL MODULES, "Fatal Python error", "Segmentation fault",
	"/usr/lib/python3.11/ctypes/__init__.py", "fl.py", 519, 2, false},
    {SYNTAX, "SyntaxError", "invalid syntax", "syn.py", "", 1, 0, false},
    {GROUP, "TypeError", "inner", "g.py", "", 3, 0, false},
    {TERMINATE, "c10::Error", "CUDA error: unspecified", "", "", 0, 0, false},
    /* What comes after the failure, and before it, does not hide it. */
    {PLAIN IGNORED, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {PLAIN THREAD, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {PLAIN WORKER WORKER, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {PLAIN GLOO, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {PLAIN INTERRUPTED, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {PLAIN TERMINATE, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {IGNORED PLAIN, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {SYNTAX PLAIN, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {CHAIN(CAUSE) PLAIN, "ValueError", "loss went wrong", "/home/u/train.py", "", 31, 0, false},
    {PLAIN CHAIN(CAUSE), "KeyError", "'layer.0.weight'", "ch.py", "", 2, 0, false},
    /* Where there is nothing better, these are what there is. */
    {THREAD, "OSError", "[Errno 9] Bad file descriptor", "/usr/lib/python3.11/threading.py", "",
	1045, 0, false},
    {IGNORED, "RuntimeError", "late", "late.py", "", 4, 0, false},
    {INTERRUPTED, "KeyboardInterrupt", "", "/home/u/train.py", "", 31, 0, false},
    /* Others write in between, and before on the line. */
    {"  5%|5    | 5/100 [00:00<00:01]" PLAIN, "ValueError", "loss went wrong", "/home/u/train.py",
	"", 31, 0, false},
    {HEAD "  File \"a.py\", line 1, in f\n    g()\n[W socket.cpp:601] warning: x\nstep 5 loss 2.5\n"
	  "  File \"a.py\", line 9, in g\nWARNING: something\nTypeError: x\n",
	"TypeError", "x", "a.py", "", 9, 0, false},
    {"[rank12]: " HEAD
     "[rank12]:   File \"a.py\", line 7, in f\n[rank12]:     g()\n[rank12]: TypeError: y\n",
	"TypeError", "y", "a.py", "", 7, 0, false},
    {HEAD "  File \"a.py\", line 7, in f\r\n    g()\r\nTypeError: y\r\n", "TypeError", "y", "a.py",
	"", 7, 0, false},
    /* The beginning is missing. */
    {"^^^^\n  File \"a.py\", line 7, in f\n    g()\nTypeError: y\n", "TypeError", "y", "a.py", "",
	7, 0, false},
    {"rror: half\n\n" CAUSE "\n\n" PLAIN, "ValueError", "loss went wrong", "/home/u/train.py", "",
	31, 0, false},
    /* Nothing is there. */
    {"", NULL, NULL, NULL, NULL, 0, 0, false},
    {"\n\n\n", NULL, NULL, NULL, NULL, 0, 0, false},
    {"step 1 loss 2.0\nValueError: only talk\nTypeError\n", NULL, NULL, NULL, NULL, 0, 0, false},
    {HEAD, NULL, NULL, NULL, NULL, 0, 0, false},
    {HEAD "  File \"a.py\", line 7, in f\n", NULL, NULL, NULL, NULL, 0, 0, false},
    {"Fatal Python error: Aborted\n", NULL, NULL, NULL, NULL, 0, 0, false},
    {"  File \"\", line , in\n  File \"a\", line x\n  File \"\nError\n", NULL, NULL, NULL, NULL, 0,
	0, false},
    {CAUSE "\n" HANDLING "\n-- Process terminated with the following error:\n", NULL, NULL, NULL,
	NULL, 0, 0, false},
};

static void expect(const struct sample *s, size_t number, bool found, const struct traceback *t)
{
	if (found != (s->type != NULL))
		fail_msg("sample %zu: %s", number, found ? t->type : "nothing was found");
	if (!found)
		return;
	if (strcmp(t->type, s->type) != 0 || strcmp(t->message, s->message) != 0 ||
	    strcmp(t->raised.file, s->file) != 0 || t->raised.line != s->line ||
	    strcmp(t->own.file, s->own_file) != 0 || t->own.line != s->own_line ||
	    t->follows != s->follows)
		fail_msg("sample %zu: '%s' '%s' at '%s':%u, '%s':%u, %d", number, t->type,
		    t->message, t->raised.file, t->raised.line, t->own.file, t->own.line, t->follows);
}

static void each_sample(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct traceback t = {0};

		expect(&samples[i], i, traceback_find(samples[i].text, strlen(samples[i].text), &t),
		    &t);
	}
}

static void long_parts_are_cut(void **state)
{
	static char text[200000];
	struct traceback t;
	size_t used = 0;

	(void)state;
	used += (size_t)snprintf(text, sizeof(text), HEAD "  File \"");
	memset(text + used, 'f', 50000);
	used += 50000;
	used += (size_t)snprintf(
	    text + used, sizeof(text) - used, "\", line 99999999999999999999, in ");
	memset(text + used, 'g', 50000);
	used += 50000;
	text[used++] = '\n';
	text[used++] = 'E';
	memset(text + used, 'r', 50000);
	used += 50000;
	used += (size_t)snprintf(text + used, sizeof(text) - used, ": m");
	memset(text + used, '\0', 40000);
	assert_true(traceback_find(text, used + 40000, &t));
	assert_int_equal(strlen(t.type), TRACEBACK_NAME_MAX - 1);
	assert_int_equal(strlen(t.message), TRACEBACK_TEXT_MAX - 1);
	assert_int_equal(strlen(t.raised.file), TRACEBACK_TEXT_MAX - 1);
	assert_int_equal(strlen(t.raised.function), TRACEBACK_NAME_MAX - 1);
}

/* Every sample cut short anywhere, and with bytes changed: found or not, nothing is read or written beyond. */
static void garbage(void **state)
{
	uint64_t seed = sample_seed(29);

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		size_t size = strlen(samples[i].text);

		for (unsigned round = 0; round < 400; round++) {
			/* A block of its own, so that the sanitizer sees its end. */
			size_t cut = size == 0 ? 0 : (size_t)(sample_random(&seed) % (size + 1));
			char *text = malloc(cut + 1);
			struct traceback t;

			assert_non_null(text);
			memcpy(text, samples[i].text, cut);
			for (unsigned changes = round % 5; cut > 0 && changes > 0; changes--)
				text[sample_random(&seed) % cut] = (char)sample_random(&seed);
			char *exact = realloc(text, cut > 0 ? cut : 1);

			(void)traceback_find(exact, cut, &t);
			(void)traceback_find_recorded(exact, cut, &t);
			free(exact);
		}
	}
}

/* --- the error file -------------------------------------------------------------------------------------- */

#define RECORDED                                                                                   \
	"{\"message\": {\"message\": \"ValueError: recorded \\u00e9\", \"extraInfo\": "            \
	"{\"py_callstack\": "                                                                      \
	"\"Traceback (most recent call last):\\n  File \\\"/v/site-packages/torch/errors.py\\\", " \
	"line 346, "                                                                               \
	"in wrapper\\n    return f(*args)\\n  File \\\"rec.py\\\", line 4, in main\\n    raise "   \
	"ValueError(\\\"recorded\\\")\\nValueError: recorded \\u00e9\\n\", \"timestamp\": "        \
	"\"1795530001\"}}}"

static bool recorded(const char *text, struct traceback *t)
{
	return traceback_find_recorded(text, strlen(text), t);
}

static void error_files(void **state)
{
	static const char *const none[] = {"", "{", "[]", "7", "null", "{\"message\": 5}",
	    "{\"message\": {}}",
	    "{\"message\": {\"message\": 7, \"extraInfo\": 8}}", "{\"message\": {\"message\": \"no exception\", \"extraInfo\": {\"py_callstack\": \"none\"}}}",
	    "{\"message\": \"worker failed\"}"};
	struct traceback t;

	(void)state;
	assert_true(recorded(RECORDED, &t));
	assert_string_equal(t.message, "recorded \xc3\xa9");
	assert_string_equal(t.raised.file, "rec.py");
	/* Of an extension without frames, the message alone. */
	assert_true(recorded("{\"message\": {\"message\": \"RuntimeError: cannot\\nmore\"}}\n", &t));
	assert_string_equal(t.type, "RuntimeError");
	assert_string_equal(t.message, "cannot");
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		if (recorded(none[i], &t))
			fail_msg("'%s': %s", none[i], t.type);
}

/* --- evidence -------------------------------------------------------------------------------------------- */

#define ERR "\nstandard error /run/rank-0000.err, the last 99 of 99 bytes\n"
#define OUT "\nstandard output /run/rank-0000.out, the last 99 of 99 bytes\n"
#define FILE_HEAD "\nerror file /run/rank-0000.error.json, the last 99 of 99 bytes\n"

static void in_evidence(void **state)
{
	struct traceback t;

	(void)state;
	assert_true(failure_of_evidence(ERR PLAIN OUT "step 1\n", &t));
	assert_string_equal(t.message, "loss went wrong");
	/* What was logged to the output was caught; it counts where standard error says nothing. */
	assert_true(failure_of_evidence(ERR PLAIN OUT SYNTAX, &t));
	assert_string_equal(t.message, "loss went wrong");
	assert_true(failure_of_evidence(ERR OUT SYNTAX, &t));
	assert_string_equal(t.type, "SyntaxError");
	/* What the main program recorded is its failure for certain; what is no such file is nothing. */
	assert_true(failure_of_evidence(ERR SYNTAX OUT FILE_HEAD RECORDED "\n", &t));
	assert_string_equal(t.raised.file, "rec.py");
	assert_true(failure_of_evidence(ERR SYNTAX OUT FILE_HEAD "{\"message\"\n", &t));
	assert_string_equal(t.type, "SyntaxError");
	assert_false(failure_of_evidence("thread 5\n  #0 main at " PLAIN, &t));
	assert_false(failure_of_evidence(ERR, &t));
	assert_false(failure_of_evidence("\nstandard error", &t));
	assert_false(failure_of_evidence("", &t));
}

static void as_sentences(void **state)
{
	char text[FAILURE_SENTENCE_MAX];
	struct traceback t;

	(void)state;
	assert_true(traceback_find(GLOO, strlen(GLOO), &t));
	failure_place(&t, text);
	assert_string_equal(text,
	    "at /home/u/train.py:6, from "
	    "/usr/lib/python3/dist-packages/torch/distributed/distributed_c10d.py:1541 in "
	    "all_reduce");
	assert_true(traceback_find(PLAIN, strlen(PLAIN), &t));
	failure_sentence(&t, text);
	assert_string_equal(text, "ValueError: loss went wrong");
	failure_place(&t, text);
	assert_string_equal(text, "at /home/u/train.py:31 in main");
	memcpy(t.message, "\033[2J", 5);
	failure_sentence(&t, text);
	assert_string_equal(text, "ValueError: ?[2J");
	memset(&t.raised, 0, sizeof(t.raised));
	failure_place(&t, text);
	assert_string_equal(text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_sample),
	    cmocka_unit_test(long_parts_are_cut),
	    cmocka_unit_test(garbage),
	    cmocka_unit_test(error_files),
	    cmocka_unit_test(in_evidence),
	    cmocka_unit_test(as_sentences),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
